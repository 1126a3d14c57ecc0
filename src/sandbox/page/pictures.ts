import { Model, type ModelWith, textOf } from './events.js';
import { ServerStatusCodeError } from './groups.js';
import { addressOf, createWid, type Wid, type WidLike } from './ids.js';
import type { Link } from './link.js';
import type { Account, Collections } from './models.js';

interface PictureAttributes {
  id: Wid;
  /** The address of the picture; undefined when there is none, or when nobody has looked yet. */
  img: string | undefined;
}

/** The picture of a person or a group. */
export class Picture extends (Model as ModelWith<PictureAttributes>) {
  #mayChange: () => boolean;

  constructor(id: Wid, img: string | undefined, mayChange: () => boolean) {
    super({ id, img });
    this.#mayChange = mayChange;
  }

  canSet(): boolean {
    return this.#mayChange();
  }

  canDelete(): boolean {
    return this.#mayChange();
  }
}

interface Parts {
  link: Link;
  account: Account;
  collections: Collections;
}

/** Fills the collection of pictures, and gives the modules of WhatsApp Web that change them. */
export function pictureModules({ link, account, collections }: Parts) {
  const { ProfilePicThumb: pictures, Chat: chats } = collections;
  const isMe = (wid: Wid): boolean => wid.equals(account.me);
  const mayChange = (wid: Wid) => (): boolean => {
    const metadata = chats.get(wid)?.groupMetadata;
    if (!metadata) return isMe(wid);
    return metadata.participants.iAmAdmin() || (metadata.participants.iAmMember() && !metadata.restrict);
  };
  const known = pictures.get.bind(pictures);
  // The own picture and those of groups are there from the beginning.
  pictures.get = (id) => {
    const found = known(id);
    if (found || id === undefined) return found;
    const wid = createWid(textOf(id));
    const isThere = isMe(wid) || chats.get(wid)?.groupMetadata !== undefined;
    return isThere ? pictures.add(new Picture(wid, undefined, mayChange(wid))) : undefined;
  };
  pictures.find = async (id) => {
    const wid = createWid(textOf(id));
    const found = await link.ask('picture', { of: addressOf(wid) });
    const picture = pictures.get(wid) ?? pictures.add(new Picture(wid, undefined, mayChange(wid)));
    return picture.set({ img: found?.eurl });
  };
  const change = async (id: WidLike, picture: string | null): Promise<{ status: number }> => {
    const answer = await link.ask('set-picture', { of: addressOf(createWid(id)), picture });
    if (answer.status !== 200) throw new ServerStatusCodeError(answer.status);
    return answer;
  };
  return {
    WAWebContactProfilePicThumbBridge: {
      requestProfilePicFromServer: async ({ id }: { id: WidLike }) =>
        // Without a picture, the real page answers too, but without `eurl`.
        (await link.ask('picture', { of: addressOf(createWid(id)) })) ?? { id, tag: '' },
      sendSetPicture: (id: WidLike, _thumbnail: string, dataUrl: string) =>
        change(id, dataUrl.slice(dataUrl.indexOf(',') + 1)),
      requestDeletePicture: (id: WidLike) => change(id, null),
    },
  };
}
