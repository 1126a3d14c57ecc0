import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Messages that a restored session does not know. The instance writes down when it restores a snapshot. Everything else follows
 * from the times, so that a crash in between loses nothing.
 */
export class InQuestion1796256000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table session_snapshots add column restored_at timestamptz;
      alter table messages add column in_question_since timestamptz;
      ${messageJson(`, 'inQuestionSince', iso_time(m.in_question_since)`)};
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ${messageJson('')};
      alter table messages drop column in_question_since;
      alter table session_snapshots drop column restored_at;
    `);
  }
}

/** @param more SQL of further fields */
function messageJson(more: string): string {
  return `create or replace function message_json(m messages) returns jsonb language sql stable parallel safe as $$
        select jsonb_build_object(
          'id', m.id, 'workspaceId', m.workspace_id, 'accountId', m.account_id, 'direction', m.direction,
          'priority', (array['campaign', 'normal', 'high', 'urgent'])[m.priority + 1], 'type', m.type,
          'to', m.recipient, 'from', m.sender, 'text', m.text, 'media', m.media, 'status', m.status,
          'error', case when m.error_code is null then null
                        else jsonb_build_object('code', m.error_code, 'message', m.error_message) end,
          'attempts', m.attempts, 'whatsappId', m.whatsapp_id, 'campaignId', m.campaign_id, 'replyTo', m.reply_to,
          'metadata', m.metadata, 'createdAt', iso_time(m.created_at), 'scheduledFor', iso_time(m.scheduled_for),
          'sentAt', iso_time(m.sent_at), 'deliveredAt', iso_time(m.delivered_at), 'readAt', iso_time(m.read_at),
          'failedAt', iso_time(m.failed_at), 'editedAt', iso_time(m.edited_at), 'revokedAt', iso_time(m.revoked_at),
          'reactions', jsonb_path_query_array(m.reactions, '$[*] ? (@.emoji != "")'),
          'location', m.content -> 'location', 'contact', m.content -> 'contact', 'poll', m.content -> 'poll',
          'votes', jsonb_path_query_array(m.votes, '$[*] ? (@.options.size() > 0)'),
          'mentions', m.content -> 'mentions', 'participant', m.content -> 'participant',
          'quotedWhatsappId', m.content ->> 'quotedWhatsappId', 'whatsappType', m.content ->> 'whatsappType'${more})
      $$`;
}
