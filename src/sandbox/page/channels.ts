import type {
  ChannelAction,
  ChannelEvent,
  ChannelPost,
  ChannelResult,
  ChannelRole,
  ChannelState,
} from '../wire/frames.js';
import { type IdLike, Model, type ModelWith, textOf } from './events.js';
import { ServerStatusCodeError } from './groups.js';
import { createWid, encodeB64, MsgKey, phoneOfWid, type Wid, widOfPhone, type WidLike } from './ids.js';
import type { Link } from './link.js';
import type { Media } from './media.js';
import type { Messages } from './messages.js';
import { type Account, Chat, type Collections, type Contact, type Msg, msgOfRow, rowOf } from './models.js';
import type { OwnMessage } from './own-message.js';
import type { Store } from './store.js';

const MAX_SUBSCRIBERS = 5000;
const MUTED = -1;

interface ChannelAttributes {
  id: Wid;
  membershipType: ChannelRole;
  name?: string;
  description?: string;
  inviteCode?: string;
  /** Seconds since 1970. */
  creationTime?: number;
  size?: number;
  verified?: boolean;
  reactionCodesSetting?: number;
  version?: number;
}

/** What the page knows of a channel. */
export class ChannelMetadata extends (Model as ModelWith<ChannelAttributes>) {}

/** What whatsapp-web.js gives to post in a channel. */
interface PostCall {
  msg: OwnMessage;
  newsletterJid: string;
}

/** What whatsapp-web.js gives to invite an admin. */
interface AdminInvite {
  newsletterWid: Wid;
  invitee: Wid;
  inviteMessage?: string;
}

/** What whatsapp-web.js gives to change a channel. The picture is a data URL. */
interface ChannelEdit {
  name?: string;
  description?: string | null;
  picture?: string | null;
  reactionCodesSetting?: number;
}

interface ChannelsOptions {
  link: Link;
  account: Account;
  store: Store;
  media: Media;
  messages: Messages;
}

/** The channels that the account owns, administers, follows, or has looked at; and what can be done with them. */
export class Channels {
  #link: Link;
  #account: Account;
  #store: Store;
  #media: Media;
  #messages: Messages;
  #collections!: Collections;

  constructor({ link, account, store, media, messages }: ChannelsOptions) {
    this.#link = link;
    this.#account = account;
    this.#store = store;
    this.#media = media;
    this.#messages = messages;
  }

  attach(collections: Collections): void {
    this.#collections = collections;
    collections.WAWebNewsletterCollection.find = (id) => this.#load(textOf(id));
    for (const name of ['NewsletterMetadataCollection', 'WAWebNewsletterMetadataCollection'] as const) {
      collections[name].get = (id) => collections.WAWebNewsletterCollection.get(id)?.newsletterMetadata;
      collections[name].find = async (id) => (await this.#load(textOf(id))).newsletterMetadata;
      collections[name].update = (id) => this.#refresh(textOf(id));
    }
  }

  /** All channels of the account, as they are at this moment. */
  replaceAll(states: ChannelState[]): void {
    const present = new Set(states.map(({ id }) => id));
    const known = this.#collections.WAWebNewsletterCollection;
    for (const chat of known.getModelsArray())
      if (!present.has(chat.id._serialized)) chat.newsletterMetadata!.set({ membershipType: 'guest' });
    for (const state of states) this.#apply(state);
  }

  /** Takes in a change of a channel. */
  receive({ id, state }: ChannelEvent): void {
    const isGone = state?.role === 'guest' && !this.#collections.WAWebNewsletterCollection.get(id);
    if (!state) this.#forget(id);
    else if (!isGone) this.#apply(state);
  }

  /** The chat of a channel. Its posts may be known before the channel is. */
  chatOf(wid: Wid): Chat {
    const { WAWebNewsletterCollection: channels, Msg: msgs } = this.#collections;
    const known = channels.get(wid);
    if (known) return known;
    const chat = new Chat(wid, wid.user, msgs);
    const metadata = new ChannelMetadata({ id: wid, membershipType: 'guest' });
    Object.defineProperty(chat, 'newsletterMetadata', { value: metadata, enumerable: false });
    return channels.add(chat);
  }

  /** The posts that are older than those in memory: from the disk, and then from the server. */
  async loadEarlier(chat: Chat): Promise<Msg[]> {
    const stored = await this.#messages.loadEarlier(chat);
    if (stored.length > 0) return stored;
    const { posts } = await this.#do({ kind: 'posts', channel: chat.id._serialized });
    const known = new Set(chat.msgs.getModelsArray().map(({ id }) => id.id));
    const msgs = posts.filter(({ id }) => !known.has(id)).map((post, i) => this.#modelOf(chat.id, post, i));
    chat.addEarlier(msgs);
    return msgs;
  }

  /** The modules of WhatsApp Web about channels. */
  get modules() {
    const { Contact: contacts } = this.#collections;
    return {
      WAJids: { toNewsletterJid: (id: string) => createWid(id).toJid() },
      WAWebContactCollection: { getMeContact: () => this.#account.me && contacts.gadd(this.#account.me) },

      // Reading
      WAWebLoadNewsletterPreviewChatAction: { loadNewsletterPreviewChat: (id: string) => this.#load(id) },
      WAWebNewsletterModelUtils: {
        ADMIN_NOTIFICATIONS: 'admin_notifications',
        MUTED_STATE: 'ON',
        UNMUTED_STATE: 'OFF',
        getRoleByIdentifier: (code: string) => this.#roleIn(code),
      },
      WAWebNewsletterMetadataQueryJob: {
        queryNewsletterMetadataByInviteCode: async (code: string) =>
          metadataAnswerOf((await this.#do({ kind: 'look', code })).channel),
      },
      WAWebNewsletterSubscribeAction: {
        subscribeToNewsletterAction: async (chat: Chat) => this.#changed(chat, { kind: 'follow' }),
      },
      WAWebNewsletterUnsubscribeAction: {
        unsubscribeFromNewsletterAction: async (
          chat: Chat,
          { deleteLocalModels }: { deleteLocalModels: boolean },
        ) => {
          await this.#changed(chat, { kind: 'unfollow' });
          if (deleteLocalModels) this.#forget(chat.id._serialized);
        },
      },
      WAWebNewsletterUpdateUserSettingJob: {
        updateNewsletterUserSetting: ({ newsletterJid, muteExpirationValue }: MuteCall) => {
          const kind = muteExpirationValue === 'ON' ? ('mute' as const) : ('unmute' as const);
          return this.#changed({ id: createWid(newsletterJid) }, { kind });
        },
      },

      // Owning
      WAWebNewsletterGatingUtils: {
        isNewsletterCreationEnabled: () => true,
        getMaxSubscriberNumber: () => MAX_SUBSCRIBERS,
        getNewsletterDirectoryPageSize: () => 50,
      },
      WAWebNewsletterCreateQueryJob: {
        createNewsletterQuery: async ({ name, description, picture }: ChannelEdit & { name: string }) => {
          const settings = { name, ...settingsOf({ description, picture }) };
          const { channel } = await this.#do({ kind: 'create', settings });
          this.#apply(channel);
          return metadataAnswerOf(channel);
        },
      },
      WAWebNewsletterDeleteAction: {
        deleteNewsletterAction: async (chat: Chat) => {
          await this.#do({ kind: 'delete', channel: chat.id._serialized });
          this.#forget(chat.id._serialized);
        },
      },
      WAWebEditNewsletterMetadataAction: {
        editNewsletterMetadataAction: (chat: Chat, _marks: object, value: ChannelEdit) =>
          this.#changed(chat, { kind: 'edit', settings: settingsOf(value) }),
      },
      WAWebMexFetchNewsletterSubscribersJob: {
        mexFetchNewsletterSubscribers: async (id: string, limit: number) => {
          const { subscribers } = await this.#do({ kind: 'subscribers', channel: id });
          return {
            subscribers: subscribers
              .slice(0, limit)
              .map(({ phone, role }) => ({ id: widOfPhone(phone), role })),
          };
        },
      },
      WAWebNewsletterSubscriberListAction: {
        getSubscribersInContacts: (subscribers: { id: Wid; role: ChannelRole }[]) =>
          subscribers.flatMap(({ id, role }) => {
            const contact = contacts.get(id);
            return contact?.isAddressBookContact === 1 ? [{ contact, role }] : [];
          }),
      },

      // Admins
      WAWebNewsletterSendMsgAction: {
        sendNewsletterAdminInviteMessage: (chat: Chat, invite: AdminInvite) =>
          this.#inviteAdmin(chat, invite),
      },
      WAWebMexAcceptNewsletterAdminInviteJob: {
        acceptNewsletterAdminInvite: (id: string) =>
          this.#changed({ id: createWid(id) }, { kind: 'accept-admin' }),
      },
      WAWebMexRevokeNewsletterAdminInviteJob: {
        revokeNewsletterAdminInvite: (id: string, wid: Wid) => this.#changeAdmin('revoke-invite', id, wid),
      },
      WAWebDemoteNewsletterAdminAction: {
        demoteNewsletterAdmin: (id: string, wid: Wid) => this.#changeAdmin('demote', id, wid),
      },
      WAWebNewsletterDemoteAdminJob: {
        demoteNewsletterAdminAction: ({ id }: Chat, contact: Contact) =>
          this.#changeAdmin('demote', id, contact.id),
      },
      WAWebChangeNewsletterOwnerAction: {
        changeNewsletterOwnerAction: ({ id }: Chat, contact: Contact) =>
          this.#changeAdmin('transfer', id, contact.id),
      },

      // Posting
      WAMediaCalculateFilehash: {
        getRandomFilehash: async () => encodeB64(crypto.getRandomValues(new Uint8Array(32))),
      },
      WAWebMsgDataFromModel: { msgDataFromMsgModel: (msg: OwnMessage) => msg },
      WAWebNewsletterUpdateMsgsRecordsJob: {
        addNewsletterMsgsRecords: async (msgs: OwnMessage[]) => {
          await Promise.all(msgs.map(({ row }) => this.#store.save(row)));
        },
        updateNewsletterMsgRecord: ({ row }: OwnMessage) => this.#store.save(row),
      },
      WAWebNewsletterSendMessageJob: { sendNewsletterMessageJob: (call: PostCall) => this.#post(call) },
      WAWebChatLoadMessages: {
        loadEarlierMsgs: ({ chat }: { chat: Chat }) =>
          chat.newsletterMetadata ? this.loadEarlier(chat) : this.#messages.loadEarlier(chat),
      },
    };
  }

  async #post({ msg, newsletterJid }: PostCall) {
    const { b: text, x: content = {} } = msg.row;
    const { post } = await this.#do({
      kind: 'post',
      channel: newsletterJid,
      id: msg.id.id,
      type: msg.type,
      text,
      content,
    });
    this.chatOf(msg.id.remote).set({ lastReceivedKey: msg.id });
    return { success: true, ack: { t: post.t }, serverId: post.serverId };
  }

  /** Invites somebody on the server, and tells that person by a message. */
  async #inviteAdmin(chat: Chat, { newsletterWid, invitee, inviteMessage = '' }: AdminInvite) {
    await this.#changeAdmin('invite-admin', newsletterWid, invitee);
    const id = new MsgKey({ fromMe: true, remote: chat.id, id: await MsgKey.newId() });
    const [, sent] = this.#messages.addAndSend({
      id,
      type: 'newsletter_admin_invite',
      body: inviteMessage,
      t: Math.floor(Date.now() / 1000),
      ack: 0,
      newsletterId: newsletterWid._serialized,
      newsletterName: this.chatOf(newsletterWid).name,
    });
    return sent;
  }

  async #changeAdmin(
    kind: 'invite-admin' | 'revoke-invite' | 'demote' | 'transfer',
    id: WidLike,
    user: Wid,
  ): Promise<void> {
    const channel = createWid(id)._serialized;
    await this.#do({ kind, channel, phone: phoneOfWid(user) });
    await this.#query(channel);
  }

  /** Does something that changes the channel for this account. */
  async #changed(
    { id }: Pick<Chat, 'id'>,
    action: ActionOf<'follow' | 'unfollow' | 'mute' | 'unmute' | 'accept-admin' | 'edit'>,
  ): Promise<void> {
    const { channel } = await this.#do({ ...action, channel: id._serialized } as ChannelAction);
    this.#apply(channel);
  }

  /** Gets a channel, also one that the account does not follow. */
  async #load(id: string): Promise<Chat> {
    await this.#query(id);
    return this.chatOf(createWid(id));
  }

  /** Asks for the state of a channel that the page shows. The channel may have been deleted a moment ago. */
  async #refresh(id: string): Promise<void> {
    try {
      await this.#query(id);
    } catch (error) {
      if (!(error instanceof ServerStatusCodeError) || error.status !== 404) throw error;
      this.#forget(id);
    }
  }

  async #query(id: string): Promise<void> {
    const { channel } = await this.#do({ kind: 'query', channel: id });
    this.#apply(channel);
  }

  async #do(channel: ChannelAction): Promise<Required<ChannelResult>> {
    const result = await this.#link.ask('channel', { channel });
    if (result.status !== 200) throw new ServerStatusCodeError(result.status);
    // What succeeds has the result that its caller reads.
    return result as Required<ChannelResult>;
  }

  #roleIn(code: string): ChannelRole {
    const channels = this.#collections.WAWebNewsletterCollection.getModelsArray();
    const found = channels.find(({ newsletterMetadata }) => newsletterMetadata!.inviteCode === code);
    return found?.newsletterMetadata!.membershipType ?? 'guest';
  }

  /** Takes in the state of a channel, unless a newer one is known: events may come late. */
  #apply(state: ChannelState): void {
    const chat = this.chatOf(createWid(state.id));
    const metadata = chat.newsletterMetadata!;
    if ((metadata.version ?? 0) > state.version) return;
    chat.set({
      name: state.name,
      formattedTitle: state.name,
      isReadOnly: !['owner', 'admin'].includes(state.role),
    });
    chat.mute.expiration = state.isMuted ? MUTED : 0;
    metadata.set({
      version: state.version,
      membershipType: state.role,
      name: state.name,
      description: state.description,
      inviteCode: state.invite,
      creationTime: secondsOf(state.createdAt),
      size: state.followerCount,
      verified: false,
      reactionCodesSetting: state.reactions,
    });
  }

  #forget(id: IdLike): void {
    const channels = this.#collections.WAWebNewsletterCollection;
    const chat = channels.get(id);
    if (chat) channels.remove(chat);
  }

  /** A post that only the server has. */
  #modelOf(remote: Wid, { id, by, type, text, t, content }: ChannelPost, i: number): Msg {
    const key = new MsgKey({ fromMe: by === this.#account.me!.user, remote, id });
    // It is older than all messages of this page.
    const row = rowOf(key, { body: text, type, t, ack: 1, order: i - MAX_SUBSCRIBERS, content });
    return msgOfRow(row, this.#account.me, false, this.#media);
  }
}

/** An action without the channel. */
type ActionOf<Kind extends ChannelAction['kind']> = Kind extends 'edit'
  ? { kind: 'edit'; settings: Extract<ChannelAction, { kind: 'edit' }>['settings'] }
  : { kind: Kind };

interface MuteCall {
  newsletterJid: string;
  muteExpirationValue: 'ON' | 'OFF';
}

function settingsOf({ name, description, picture, reactionCodesSetting }: ChannelEdit) {
  return {
    ...(name === undefined ? {} : { name }),
    ...(typeof description === 'string' ? { description } : {}),
    ...(picture === undefined ? {} : { picture: picture && picture.slice(picture.indexOf(',') + 1) }),
    ...(reactionCodesSetting === undefined ? {} : { reactions: reactionCodesSetting }),
  };
}

/** A channel as the queries of WhatsApp Web answer. */
function metadataAnswerOf({
  id,
  name,
  description,
  invite,
  createdAt,
  picture,
  followerCount,
}: ChannelState) {
  const createdAtSeconds = secondsOf(createdAt);
  return {
    idJid: id,
    newsletterInviteLinkMetadataMixin: { inviteCode: invite },
    newsletterCreationTimeMetadataMixin: { creationTimeValue: createdAtSeconds },
    newsletterNameMetadataMixin: { nameElementValue: name, nameUpdateTime: createdAtSeconds },
    newsletterDescriptionMetadataMixin: {
      descriptionQueryDescriptionResponseMixin: { elementValue: description, updateTime: createdAtSeconds },
    },
    newsletterStateMetadataMixin: { stateType: 'active' },
    newsletterSubscribersMetadataMixin: { subscribersCount: followerCount },
    newsletterVerificationMetadataMixin: { verificationState: 'unverified' },
    ...(picture
      ? {
          newsletterPictureMetadataMixin: {
            picture: [
              {
                queryPictureDirectPathOrEmptyResponseMixinGroup: {
                  value: { directPath: `/pictures/${picture}` },
                },
              },
            ],
          },
        }
      : {}),
  };
}

function secondsOf(time: string): number {
  return Math.floor(Date.parse(time) / 1000);
}
