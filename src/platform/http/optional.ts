import { ValidateIf } from 'class-validator';

/**
 * A field that may be left out. Null means the same. If null has a meaning of its own, such as "no limit", use the `IsOptional` of
 * class-validator instead.
 */
export function Optional(): PropertyDecorator {
  return ValidateIf((_object, value) => value !== undefined);
}
