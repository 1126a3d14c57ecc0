/*
 * Who of the recipients gets no message although the line of the list is valid. The preflight counts them as a set, and the dealing looks
 * at each recipient when an account is about to get it. A further reason needs a line in both, and a text here.
 */

/** Reasons, as the `error.code` of a recipient that was left out, with what a person reads. */
export const leftOutReasons = {
  'campaign.received_recently': 'This person got a message of another campaign within notWithinDays.',
} as const;

/** SQL: the recipients who got a message of another campaign of the workspace in the last days. Nobody if `days` is null. */
export function receivedRecently(campaign: string, workspace: string, days: string): string {
  return `select distinct m.recipient from accounts a join messages m on m.account_id = a.id
    where a.workspace_id = ${workspace} and m.direction = 'outgoing' and m.stage is null
      and m.sent_at > now() - ${days}::int * interval '1 day' and m.campaign_id is not null and m.campaign_id <> ${campaign}`;
}

/** SQL: why a recipient is left out, or null. */
export function leftOutSql(campaign: string, workspace: string, recipient: string, days: string): string {
  return `case when ${days}::int is not null and exists (select from messages m where m.workspace_id = ${workspace} and m.recipient = ${recipient}
      and m.direction = 'outgoing' and m.campaign_id <> ${campaign} and m.sent_at > now() - ${days}::int * interval '1 day')
    then 'campaign.received_recently' end`;
}
