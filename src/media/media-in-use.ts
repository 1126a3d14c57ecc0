/**
 * SQL for whether a message that is not sent yet needs a media. The caller has the row of the media locked, so that no
 * other message can take it meanwhile.
 * @param mediaId SQL, a text
 */
export function isInUse(mediaId: string): string {
  return `exists (select from messages w
    where w.media ->> 'mediaId' = ${mediaId} and w.media is not null and w.stage is not null)`;
}
