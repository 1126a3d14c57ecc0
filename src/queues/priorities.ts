/** In the order of their numbers in the table `messages`. Messages with a larger number are sent first. */
export const priorities = ['campaign', 'normal', 'high', 'urgent'] as const;
export type Priority = (typeof priorities)[number];
