import type { components, paths } from './schema.js';

/** The shapes of the API by their names: `Schemas['MessageResponse']`. */
export type Schemas = components['schemas'];
export type Account = Schemas['AccountResponse'];
export type Message = Schemas['MessageResponse'];
export type SendMessage = Schemas['SendMessageDto'];
export type Problem = Schemas['Problem'];
export type FlotillaEvent = Schemas['EventResponse'];

/** Every code that an error can have. */
export type ErrorCode = Schemas['ErrorCode'];

export type Method = 'get' | 'post' | 'put' | 'patch' | 'delete';

type Full = keyof paths;
type Operation<M extends Method, P extends Full> = NonNullable<paths[P][M]>;
/** Paths are written as in the documentation, without `/api/v1`. */
type Short<P> = P extends `/api/v1${infer Rest}` ? Rest : P;
type Long<P extends string> = `/api/v1${P}` extends Full ? `/api/v1${P}` : P extends Full ? P : never;

/** The paths that have this method. */
export type PathOf<M extends Method> = {
  [P in Full]: paths[P][M] extends { responses: unknown } ? Short<P> : never;
}[Full];

/** The paths of lists. */
export type ListPath = {
  [P in Full]: Answer<'get', Short<P>> extends { items: unknown[]; nextCursor: string | null }
    ? Short<P>
    : never;
}[Full];

type ContentOf<Response> = Response extends { content: infer Content }
  ? Content extends { 'application/json': infer Json }
    ? Json
    : Content[keyof Content]
  : undefined;
type Successful<Responses> = {
  [Status in keyof Responses]: Status extends 200 | 201 | 202 | 204 ? ContentOf<Responses[Status]> : never;
}[keyof Responses];

/** What an operation answers with. */
export type Answer<M extends Method, P extends string> =
  Long<P> extends infer L extends Full
    ? Operation<M, L> extends { responses: infer Responses }
      ? Successful<Responses>
      : never
    : never;

type Parameters<M extends Method, P extends string> =
  Long<P> extends infer L extends Full
    ? Operation<M, L> extends { parameters: infer Given }
      ? Given
      : never
    : never;
type Body<M extends Method, P extends string> =
  Long<P> extends infer L extends Full
    ? Operation<M, L> extends { requestBody?: infer Given }
      ? NonNullable<Given> extends { content: infer Content }
        ? Content extends { 'application/json': infer Json }
          ? Json
          : Content extends { 'multipart/form-data': unknown }
            ? FormData
            : never
        : never
      : never
    : never;

type Part<Name extends string, Value> = [Value] extends [never]
  ? { [N in Name]?: undefined }
  : object extends Value
    ? { [N in Name]?: Value }
    : { [N in Name]: Value };

/** What a call may carry beside what its operation takes. */
export interface CallOptions {
  signal?: AbortSignal;
  headers?: Record<string, string>;
  /** How long one attempt may take; 30 s unless given. */
  timeoutMs?: number;
}

/** Of the operations that know an `Idempotency-Key`. */
interface Repeatable {
  /** Makes asking twice the same as asking once, so that the client repeats the call by itself when an answer is lost. */
  idempotencyKey?: string;
}

type GivenPart<Given, Name extends string> = Given extends { [N in Name]?: infer Value }
  ? Exclude<Value, undefined>
  : never;

/** What a call of an operation takes: `path`, `query` and `body`, each as the operation has it. */
export type Arguments<M extends Method, P extends string> = CallOptions &
  ([GivenPart<Parameters<M, P>, 'header'>] extends [never] ? unknown : Repeatable) &
  Part<'path', GivenPart<Parameters<M, P>, 'path'>> &
  Part<'query', GivenPart<Parameters<M, P>, 'query'>> &
  Part<'body', Body<M, P>>;

/** Nothing has to be given where nothing is required. */
export type Rest<Given> = object extends Given ? [given?: Given] : [given: Given];
