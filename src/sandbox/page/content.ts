import type { MediaPointer, SubmittedContent } from '../wire/frames.js';
import { type EventAttributes, eventAttributesOf, eventOf } from './event-content.js';
import {
  addressOfUser,
  decodeB64,
  encodeB64,
  type MsgKey,
  type Wid,
  widOfPhone,
  type WidLike,
} from './ids.js';

/** What a message has besides its text, as attributes of WhatsApp Web. */
export interface ContentAttributes extends Partial<MediaPointer>, Partial<EventAttributes> {
  caption?: string | undefined;
  mediaKeyTimestamp?: number;
  mediaData?: { mediaStage: string };
  lat?: number;
  lng?: number;
  loc?: string | undefined;
  vcardFormattedName?: string;
  vcardList?: { displayName: string; vcard: string }[];
  pollName?: string;
  pollOptions?: { name: string; localId: number }[];
  pollSelectableOptionsCount?: number;
  quotedStanzaID?: string;
  quotedParticipant?: Wid;
  quotedMsg?: { type: string; body: string; caption?: string };
  mentionedJidList?: Wid[];
  matchedText?: string;
  title?: string;
  /** Whether a person wrote the caption. Otherwise the caption of a document is the name of its file. */
  isCaptionByUser?: boolean;
  isViewOnce?: boolean;
  isGif?: boolean;
  duration?: number;
  messageSecret?: Uint8Array;
  inviteCode?: string;
  inviteCodeExp?: number;
  inviteGrp?: string;
  inviteGrpName?: string;
  comment?: string;
  isForwarded?: boolean;
  forwardingScore?: number;
  newsletterId?: string;
  newsletterName?: string;
  backgroundColor?: number;
  font?: number;
  callOutcome?: string;
  isVideoCall?: boolean;
}

/** A message that whatsapp-web.js has made to be sent. */
export type OutgoingMessage = {
  id: MsgKey;
  t: number;
  ack: number;
  body?: string;
  quotedStanzaID?: string;
  quotedParticipant?: WidLike;
  quotedMsg?: { type: string; body: string; caption?: string };
  mentionedJidList?: WidLike[];
  /** With a preview: the link in the text. */
  preview?: boolean | string;
  matchedText?: string;
  title?: string;
  isViewOnce?: boolean;
  isGif?: boolean;
  duration?: number | string;
  messageSecret?: Uint8Array<ArrayBuffer>;
  forwardingScore?: number | undefined;
  backgroundColor?: number;
  font?: number;
} & ((MediaPointer & { caption?: string; isCaptionByUser?: boolean }) | { directPath?: undefined }) &
  (
    | { type: 'chat' | 'image' | 'video' | 'audio' | 'ptt' | 'document' | 'sticker' }
    | { type: 'location'; lat: number; lng: number; loc?: string }
    | { type: 'vcard'; body: string; vcardFormattedName: string }
    | { type: 'multi_vcard'; vcardList: { displayName: string; vcard: string }[] }
    | {
        type: 'poll_creation';
        pollName: string;
        pollOptions: { name: string }[];
        pollSelectableOptionsCount: number;
      }
    | {
        type: 'groups_v4_invite';
        from: WidLike;
        inviteCode: string;
        inviteCodeExp: number;
        inviteGrp: string;
        inviteGrpName: string;
        comment: string;
      }
    | ({ type: 'event_creation' } & EventAttributes)
    | { type: 'newsletter_admin_invite'; newsletterId: string; newsletterName: string }
  );

/** What a message carries besides its text, as the wire has it; undefined when there is nothing. */
export function contentOf(message: OutgoingMessage): SubmittedContent | undefined {
  const content: SubmittedContent = {};
  if (message.directPath) {
    const { directPath, mediaKey, encFilehash, filehash, mimetype, size, filename } = message;
    content.media = { directPath, mediaKey, encFilehash, filehash, mimetype, size, filename };
  }
  if (message.type === 'location')
    content.location = { latitude: message.lat, longitude: message.lng, description: message.loc };
  if (message.type === 'vcard')
    content.contacts = [{ name: message.vcardFormattedName, vcard: message.body }];
  if (message.type === 'multi_vcard')
    content.contacts = message.vcardList.map(({ displayName, vcard }) => ({ name: displayName, vcard }));
  if (message.type === 'poll_creation')
    content.poll = {
      question: message.pollName,
      options: message.pollOptions.map(({ name }) => name),
      multiple: message.pollSelectableOptionsCount !== 1,
    };
  if (message.type === 'groups_v4_invite')
    content.invite = {
      code: message.inviteCode,
      expiresAt: message.inviteCodeExp,
      group: message.inviteGrp,
      subject: message.inviteGrpName,
    };
  if (message.type === 'event_creation') content.event = eventOf(message);
  if (message.type === 'newsletter_admin_invite')
    content.channelInvite = { channel: message.newsletterId, name: message.newsletterName };
  const { backgroundColor, font } = message;
  if (backgroundColor !== undefined && font !== undefined) content.style = { color: backgroundColor, font };
  if (message.forwardingScore) content.forwardingScore = message.forwardingScore;
  if (message.quotedStanzaID) content.replyTo = message.quotedStanzaID;
  if (message.quotedMsg && message.quotedParticipant) {
    const { type, body, caption } = message.quotedMsg;
    const from = addressOfUser(message.quotedParticipant);
    content.quoted = { type, text: caption ?? body, from };
  }
  const { matchedText, title = '' } = message;
  if (matchedText !== undefined) content.preview = { url: matchedText, title };
  if (message.isViewOnce) content.viewOnce = true;
  if (message.isGif) content.gif = true;
  if (message.duration) content.duration = Number(message.duration);
  if (message.messageSecret) content.secret = encodeB64(message.messageSecret);
  if (message.mentionedJidList && message.mentionedJidList.length > 0)
    content.mentions = message.mentionedJidList.map(addressOfUser);
  return Object.keys(content).length > 0 ? content : undefined;
}

/** The text that a person reads. Of media this is the caption, because the body is a small picture. */
export function textOf(message: OutgoingMessage): string {
  // The page takes the caption of a document for its file name, unless it is told that a person wrote the caption.
  if (message.type === 'document' && message.directPath && !message.isCaptionByUser) return '';
  if (message.directPath) return message.caption ?? '';
  if (message.type === 'groups_v4_invite') return message.comment;
  return message.type === 'vcard' || message.type === 'multi_vcard' ? '' : (message.body ?? '');
}

/** The content of a message as attributes of its model, as the modules of WhatsApp Web have them. */
export function attributesOf(
  content: SubmittedContent,
  text: string,
  type: string,
): ContentAttributes & { body?: string } {
  const { media, location, contacts, poll, replyTo, quoted, mentions, invite } = content;
  const { forwardingScore, event, channelInvite, style, callLog } = content;
  const attributes: ContentAttributes & { body?: string } = {};
  if (media)
    Object.assign(attributes, media, {
      body: '/9j/4AAQ',
      ...(text === '' && type === 'document'
        ? { caption: media.filename, isCaptionByUser: false }
        : { caption: text === '' ? undefined : text, isCaptionByUser: text !== '' }),
      mediaKeyTimestamp: 0,
      mediaData: { mediaStage: 'NEED_POKE' },
    });
  if (location)
    Object.assign(attributes, { lat: location.latitude, lng: location.longitude, loc: location.description });
  if (contacts?.length === 1)
    Object.assign(attributes, { body: contacts[0]!.vcard, vcardFormattedName: contacts[0]!.name });
  else if (contacts) attributes.vcardList = contacts.map(({ name, vcard }) => ({ displayName: name, vcard }));
  if (poll)
    Object.assign(attributes, {
      pollName: poll.question,
      pollOptions: poll.options.map((name, localId) => ({ name, localId })),
      pollSelectableOptionsCount: poll.multiple ? 0 : 1,
    });
  if (replyTo) Object.assign(attributes, { quotedStanzaID: replyTo, quotedMsg: { type: 'chat', body: '' } });
  if (quoted) {
    const { type: quotedType, text: body, from } = quoted;
    Object.assign(attributes, { quotedMsg: { type: quotedType, body }, quotedParticipant: widOfPhone(from) });
  }
  if (invite)
    Object.assign(attributes, {
      inviteCode: invite.code,
      inviteCodeExp: invite.expiresAt,
      inviteGrp: invite.group,
      inviteGrpName: invite.subject,
      comment: text,
    });
  if (content.preview)
    Object.assign(attributes, { matchedText: content.preview.url, title: content.preview.title });
  if (content.viewOnce) attributes.isViewOnce = true;
  if (content.gif) attributes.isGif = true;
  if (content.duration) attributes.duration = content.duration;
  if (content.secret) attributes.messageSecret = decodeB64(content.secret);
  if (forwardingScore) Object.assign(attributes, { isForwarded: true, forwardingScore });
  if (event) Object.assign(attributes, eventAttributesOf(event));
  if (channelInvite)
    Object.assign(attributes, {
      newsletterId: channelInvite.channel,
      newsletterName: channelInvite.name,
    });
  if (callLog) Object.assign(attributes, { callOutcome: callLog.outcome, isVideoCall: callLog.video });
  if (style) Object.assign(attributes, { backgroundColor: style.color, font: style.font });
  if (mentions) attributes.mentionedJidList = mentions.map(widOfPhone);
  return attributes;
}
