/** What a business says of itself. */
export interface BusinessProfile {
  description?: string;
  email?: string;
  address?: string;
  category?: string;
  websites?: string[];
}
