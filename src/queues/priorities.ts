/** In the order of their numbers in the table `messages`: a larger one is sent first. */
export const priorities = ['campaign', 'normal', 'high', 'urgent'] as const;
export type Priority = (typeof priorities)[number];
