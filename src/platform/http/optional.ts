import { ValidateIf } from 'class-validator';

/** A field that may be left out but not be null; class-validator's own `IsOptional` lets null through to where none may be. */
export function Optional(): PropertyDecorator {
  return ValidateIf((_object, value) => value !== undefined);
}
