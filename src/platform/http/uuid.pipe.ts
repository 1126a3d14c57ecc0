import { type ArgumentMetadata, Injectable, type PipeTransform } from '@nestjs/common';
import { isUUID } from 'class-validator';
import { ValidationFailed } from '../errors/problem.js';

/** Accepts an id in a path. Its error names the parameter, which the `ParseUUIDPipe` of Nest does not. */
@Injectable()
export class UuidPipe implements PipeTransform<string, string> {
  transform(value: string, { data }: ArgumentMetadata): string {
    if (isUUID(value)) return value;
    throw new ValidationFailed([{ path: data ?? 'id', message: 'must be a UUID, as answers show it' }]);
  }
}
