import { ValidateIf } from 'class-validator';

/** A field that may be missing but not null. (The `IsOptional` of class-validator accepts null too.) */
export function Optional(): PropertyDecorator {
  return ValidateIf((_object, value) => value !== undefined);
}
