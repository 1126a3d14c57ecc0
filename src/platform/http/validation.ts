import { type ArgumentMetadata, type INestApplication, type Type, ValidationPipe } from '@nestjs/common';
import {
  type ClassTransformOptions,
  instanceToPlain,
  plainToInstance,
  TransformationType,
} from 'class-transformer';
import { defaultMetadataStorage } from 'class-transformer/cjs/storage.js';
import * as classValidator from 'class-validator';
import { type FieldError, ValidationFailed } from '../errors/problem.js';

class DtoPipe extends ValidationPipe {
  /** Does nothing: parsed JSON has no gaps, and the search takes a microsecond for each value. */
  protected override closeArrayGaps(): void {}

  /** A request without a body is an empty object, unless the route needs fields: then the missing body is the error, not a field. */
  override async transform(value: unknown, metadata: ArgumentMetadata): Promise<unknown> {
    try {
      return await (super.transform(value, metadata) as Promise<unknown>);
    } catch (error) {
      if (metadata.type !== 'body' || value !== undefined || !(error instanceof ValidationFailed))
        throw error;
      throw new ValidationFailed([{ path: 'body', message: 'is missing. It must be a JSON object' }]);
    }
  }
}

/**
 * Remembers the rules of each class. class-validator searches the rules of all classes for them at each validation. The decorators
 * have run before the first validation.
 */
function rememberRules(): void {
  const storage = classValidator.getMetadataStorage();
  type Rules = ReturnType<typeof storage.getTargetValidationMetadatas>;
  const byClass = new WeakMap<object, Rules>();
  const grouped = new WeakMap<Rules, ReturnType<typeof storage.groupByPropertyName>>();
  const find = storage.getTargetValidationMetadatas.bind(storage);
  storage.getTargetValidationMetadatas = (target, schema, always, strictGroups, groups) => {
    // The pipe uses no schemas and groups. An object of a stranger may have a constructor that is not a class.
    if (typeof target !== 'function' || schema || always || strictGroups || groups)
      return find(target, schema, always, strictGroups, groups);
    const found = byClass.get(target) ?? find(target, schema, always, strictGroups, groups);
    byClass.set(target, found);
    return found;
  };
  const group = storage.groupByPropertyName.bind(storage);
  storage.groupByPropertyName = (found) => {
    const known = grouped.get(found) ?? group(found);
    grouped.set(found, known);
    return known;
  };
}
rememberRules();

/** Validates the requests of strangers against their DTOs. Calls between Flotilla's programs are typed, so they need no validation. */
export function validateRequests(app: INestApplication): void {
  app.useGlobalPipes(
    new DtoPipe({
      whitelist: true,
      forbidNonWhitelisted: true,
      transform: true,
      // Without these the pipe imports both packages on demand, which a bundled program would load a second time.
      validatorPackage: classValidator,
      transformerPackage: { plainToInstance: toDto, classToPlain: instanceToPlain },
      exceptionFactory: (errors) => new ValidationFailed(errors.flatMap((error) => fieldErrors(error))),
    }),
  );
}

/** What the decorators of a DTO say about one property. */
interface PropertyRule {
  name: string;
  /** The most elements of an array. */
  maxElements: number | null;
  /** The most characters of a text, or of each text of an array. */
  maxLength: number | null;
  /** The class of the value or of its elements. */
  type: Type | null;
  /** Null has a meaning of its own. Otherwise null is the same as leaving the field out. */
  takesNull: boolean;
  /** `class-transformer` would copy its objects field by field, and change nothing. */
  isFree: boolean;
}

const rules = new WeakMap<object, PropertyRule[]>();

/**
 * Makes a DTO from a parsed body or query. Null means that a field is left out, so that every object of an answer can be sent back;
 * only a field with `IsOptional` takes null as a value of its own. It first checks the limits of arrays and texts that the DTO declares, also in nested
 * DTOs: class-validator applies every rule to every element, also of an array that is too long. Values without a class, such as
 * `metadata`, stay the same objects.
 * @throws ValidationFailed
 */
export function toDto<Dto>(type: Type<Dto>, given: unknown, options?: ClassTransformOptions): Dto {
  if (!isRecord(given)) return plainToInstance(type, given, options);
  const plain = withoutNulls(type, given);
  const errors: FieldError[] = [];
  checkLimits(type, plain, '', errors);
  if (errors.length > 0) throw new ValidationFailed(errors);
  const free: Record<string, unknown> = {};
  const rest = { ...plain };
  for (const { name, isFree } of rulesOf(type)) {
    if (!isFree || typeof plain[name] !== 'object' || plain[name] === null) continue;
    free[name] = plain[name];
    rest[name] = undefined;
  }
  return Object.assign(plainToInstance(type, rest, options) as Dto & object, free);
}

/** The same object without the nulls that mean "left out", also in nested DTOs. It copies only what it changes. */
function withoutNulls(type: Type, value: Record<string, unknown>): Record<string, unknown> {
  let copy = value;
  const change = (name: string, changed: unknown) => {
    if (copy === value) copy = { ...value };
    if (changed === undefined) delete copy[name];
    else copy[name] = changed;
  };
  for (const { name, takesNull, maxElements, type: nested } of rulesOf(type)) {
    const found = value[name];
    if (found === null && !takesNull) change(name, undefined);
    else if (nested === null) continue;
    else if (isRecord(found)) {
      const cleaned = withoutNulls(nested, found);
      if (cleaned !== found) change(name, cleaned);
    } else if (Array.isArray(found) && found.length <= (maxElements ?? Infinity)) {
      const cleaned = found.map((item: unknown) => (isRecord(item) ? withoutNulls(nested, item) : item));
      if (cleaned.some((item, index) => item !== found[index])) change(name, cleaned);
    }
  }
  return copy;
}

/** Collects where a value exceeds the limits of its DTO. */
function checkLimits(type: Type, value: Record<string, unknown>, parent: string, errors: FieldError[]): void {
  for (const { name, maxElements, maxLength, type: nested } of rulesOf(type)) {
    const found = value[name];
    const path = parent + name;
    if (Array.isArray(found) && maxElements !== null && found.length > maxElements) {
      errors.push({ path, message: `${name} must contain no more than ${maxElements} elements` });
      continue;
    }
    const items: unknown[] = Array.isArray(found) ? found : [found];
    // A character has at most three UTF-16 code units for the rules of length: a surrogate pair and its presentation.
    if (maxLength !== null && items.some((item) => typeof item === 'string' && item.length > 3 * maxLength))
      errors.push({ path, message: `${name} must be shorter than or equal to ${maxLength} characters` });
    if (nested === null) continue;
    for (const [index, item] of items.entries())
      if (isRecord(item))
        checkLimits(nested, item, `${path}.${Array.isArray(found) ? `${index}.` : ''}`, errors);
  }
}

function rulesOf(type: Type): PropertyRule[] {
  const known = rules.get(type);
  if (known) return known;
  const metadatas = classValidator.getMetadataStorage().getTargetValidationMetadatas(type, '', false, false);
  const made = [...new Set(metadatas.map(({ propertyName }) => propertyName))].map((name): PropertyRule => {
    const own = metadatas.filter(({ propertyName }) => propertyName === name);
    const limit = (rule: string, index: number) => {
      const found: unknown = own.find((metadata) => metadata.name === rule)?.constraints[index];
      return typeof found === 'number' ? found : null;
    };
    const transforms = defaultMetadataStorage.findTransformMetadatas(
      type,
      name,
      TransformationType.PLAIN_TO_CLASS,
    );
    const declared = defaultMetadataStorage.findTypeMetadata(type, name);
    const found: unknown = declared?.typeFunction();
    const isNested = typeof found === 'function' && ![Number, String, Boolean, Date].includes(found as never);
    return {
      name,
      maxElements: limit('arrayMaxSize', 0),
      maxLength: limit('maxLength', 0) ?? limit('isLength', 1),
      type: isNested ? (found as Type) : null,
      takesNull: own.some((metadata) => metadata.name === classValidator.IS_OPTIONAL),
      isFree: declared === undefined && transforms.length === 0,
    };
  });
  rules.set(type, made);
  return made;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The class-validator rules that check the type of a value, in the order of preference. */
const typeRules = ['isArray', 'isObject', 'isString', 'isInt', 'isNumber', 'isBoolean'];
/** The most characters of a field's name that an error repeats. */
const shownNameLength = 50;

/** Converts an error of class-validator to the field errors of a problem. */
export function fieldErrors(error: classValidator.ValidationError, parent = ''): FieldError[] {
  const name = error.property.slice(0, shownNameLength);
  const path = parent ? `${parent}.${name}` : name;
  const broken = Object.entries(error.constraints ?? {});
  // A wrong type explains the other errors: for example, a value that is not a text cannot be too long.
  const wrongType = typeRules.find((rule) => error.constraints?.[rule] !== undefined);
  const first = broken.find(([rule]) => rule === wrongType) ?? broken[0];
  const own = first
    ? [{ path, message: first[0] === 'whitelistValidation' ? `unknown field ${name}` : first[1] }]
    : [];
  return [...own, ...(error.children ?? []).flatMap((child) => fieldErrors(child, path))];
}
