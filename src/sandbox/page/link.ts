import type { BrowserFrame, QuestionTypes, ServerFrame } from '../wire/frames.js';
import { Emitter } from './events.js';

/** Each frame of the server by its name, and the changes of the connection. */
type LinkEvents = { [Name in ServerFrame['t']]: [frame: Extract<ServerFrame, { t: Name }>] } & {
  connecting: [];
  lost: [];
};

/** A question that waits for its answer. */
interface OpenQuestion {
  settle(error: Error | undefined, result?: unknown): void;
  sent: boolean;
  changesNothing: boolean;
  frame: BrowserFrame;
}

const FIRST_RETRY_MS = 200;
const LAST_RETRY_MS = 5000;
/** The server sends a beat every 15 s: a connection that is silent for longer than this is dead. */
const SILENCE_MS = 40_000;
const ANSWER_LIMIT_MS = 20_000;
const MAX_QUESTIONS = 1000;

/** The connection to the server. It comes back by itself, with growing pauses, until it is stopped. */
export class Link extends Emitter<LinkEvents> {
  #socket: WebSocket | undefined;
  #retries = 0;
  #retryTimer: number | undefined;
  #stopped = false;
  #heardAt = 0;
  #questions = new Map<number, OpenQuestion>();
  #nextQuestion = 1;
  #ready!: Promise<void>;
  #becomeReady!: () => void;
  #isReady = true;

  constructor() {
    super();
    this.#expectReady();
    setInterval(() => {
      if (this.#socket && performance.now() - this.#heardAt > SILENCE_MS) this.reconnect();
    }, SILENCE_MS / 4);
  }

  get isOpen(): boolean {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  connect(): void {
    this.#stopped = false;
    clearTimeout(this.#retryTimer);
    const socket = new WebSocket(`wss://${location.host}/ws/chat`);
    this.#socket = socket;
    this.#heardAt = performance.now();
    socket.onmessage = ({ data }) => {
      if (this.#socket !== socket) return;
      this.#heardAt = performance.now();
      this.#receive(JSON.parse(data as string) as ServerFrame);
    };
    socket.onclose = () => {
      if (this.#socket === socket) this.#lost();
    };
    this.trigger('connecting');
  }

  /** Drops the connection, if any, and makes a new one. */
  reconnect(): void {
    this.#drop();
    this.#retries = 0;
    this.connect();
  }

  /** Ends the connection for good. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#retryTimer);
    this.#drop();
  }

  /** The server has recognised this browser, linked or not: questions may be asked. */
  markReady(): void {
    this.#retries = 0;
    this.#isReady = true;
    this.#becomeReady();
  }

  /** Sends a frame; false if there is no connection. */
  send(frame: BrowserFrame): boolean {
    if (!this.isOpen) return false;
    this.#socket!.send(JSON.stringify(frame));
    return true;
  }

  /** Asks the server, once there is a connection. A question that changes nothing is repeated over the next connection. */
  async ask<Q extends keyof QuestionTypes>(
    q: Q,
    parameters: QuestionTypes[Q]['asked'] = {},
    { changesNothing = false } = {},
  ): Promise<QuestionTypes[Q]['answer']> {
    if (this.#questions.size >= MAX_QUESTIONS)
      throw new Error('Too many requests are waiting for the server.');
    const n = this.#nextQuestion++;
    return new Promise((resolve, reject) => {
      const settle = (error: Error | undefined, result?: unknown): void => {
        clearTimeout(timer);
        this.#questions.delete(n);
        if (error) reject(error);
        // The server answers each question with its own kind of answer.
        else resolve(result as QuestionTypes[Q]['answer']);
      };
      const timer = setTimeout(
        () => settle(new Error(`The server did not answer "${q}" in time.`)),
        ANSWER_LIMIT_MS,
      );
      this.#questions.set(n, {
        settle,
        sent: false,
        changesNothing,
        // Q keeps a question and its parameters together, which TypeScript does not follow through the spread.
        frame: { t: 'ask', n, q, ...parameters } as BrowserFrame,
      });
      this.#put(n);
    });
  }

  #put(n: number): void {
    void this.#ready.then(() => {
      const question = this.#questions.get(n);
      if (question) question.sent = this.send(question.frame);
    });
  }

  #receive(frame: ServerFrame): void {
    if (frame.t === 'answer') {
      const error = frame.error === undefined ? undefined : new Error(frame.error);
      this.#questions.get(frame.n)?.settle(error, frame.result);
    } else {
      // The frame belongs to its name; TypeScript sees all names and all frames.
      this.trigger(frame.t, frame as never);
    }
  }

  #expectReady(): void {
    // Questions that already wait keep the promise that they wait for.
    if (!this.#isReady) return;
    this.#isReady = false;
    this.#ready = new Promise((resolve) => {
      this.#becomeReady = resolve;
    });
  }

  #drop(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket) socket.onclose = null;
    socket?.close();
    this.#afterLoss();
  }

  #lost(): void {
    this.#socket = undefined;
    this.#afterLoss();
    if (this.#stopped) return;
    // Spread out, so that not every page comes to a restarted server in the same moment.
    const pause = Math.min(FIRST_RETRY_MS * 2 ** this.#retries, LAST_RETRY_MS);
    this.#retries += 1;
    this.#retryTimer = setTimeout(() => this.connect(), pause * (0.5 + Math.random() / 2));
    this.trigger('lost');
  }

  #afterLoss(): void {
    this.#expectReady();
    for (const [n, question] of [...this.#questions]) {
      if (!question.sent) continue;
      if (question.changesNothing) this.#put(n);
      else question.settle(new Error('The connection was lost.'));
    }
  }
}
