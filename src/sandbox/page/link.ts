import { Emitter } from './events.js';

const FIRST_RETRY_MS = 200;
const LAST_RETRY_MS = 5000;
/** The server sends a beat every 15 s: a connection that is silent for longer than this is dead. */
const SILENCE_MS = 40_000;
const ANSWER_LIMIT_MS = 20_000;
const MAX_QUESTIONS = 1000;

/** The connection to the server. It comes back by itself, with growing pauses, until it is stopped. */
export class Link extends Emitter {
  #socket;
  #retries = 0;
  #retryTimer;
  #stopped = false;
  #heardAt = 0;
  #questions = new Map();
  #nextQuestion = 1;
  #ready;
  #becomeReady;
  #isReady = true;

  constructor() {
    super();
    this.#expectReady();
    setInterval(() => {
      if (this.#socket && performance.now() - this.#heardAt > SILENCE_MS) this.reconnect();
    }, SILENCE_MS / 4);
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  connect() {
    this.#stopped = false;
    clearTimeout(this.#retryTimer);
    const socket = new WebSocket(`wss://${location.host}/ws/chat`);
    this.#socket = socket;
    this.#heardAt = performance.now();
    socket.onmessage = ({ data }) => {
      if (this.#socket !== socket) return;
      this.#heardAt = performance.now();
      this.#receive(JSON.parse(data));
    };
    socket.onclose = () => {
      if (this.#socket === socket) this.#lost();
    };
    this.trigger('connecting');
  }

  /** Drops the connection, if any, and connects anew. */
  reconnect() {
    this.#drop();
    this.#retries = 0;
    this.connect();
  }

  /** Ends the connection for good. */
  stop() {
    this.#stopped = true;
    clearTimeout(this.#retryTimer);
    this.#drop();
  }

  /** The server has recognised this browser, linked or not: questions may be asked. */
  markReady() {
    this.#retries = 0;
    this.#isReady = true;
    this.#becomeReady();
  }

  /** Sends a frame; false if there is no connection. */
  send(frame) {
    if (!this.isOpen) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /** Asks the server something, once there is a connection; what changes nothing is asked again over the next one. */
  async ask(q, parameters = {}, { changesNothing = false } = {}) {
    if (this.#questions.size >= MAX_QUESTIONS)
      throw new Error('Too many requests are waiting for the server.');
    const n = this.#nextQuestion++;
    return new Promise((resolve, reject) => {
      const settle = (error, result) => {
        clearTimeout(timer);
        this.#questions.delete(n);
        if (error) reject(error);
        else resolve(result);
      };
      const timer = setTimeout(
        () => settle(new Error(`The server did not answer "${q}" in time.`)),
        ANSWER_LIMIT_MS,
      );
      this.#questions.set(n, {
        settle,
        sent: false,
        changesNothing,
        frame: { t: 'ask', n, q, ...parameters },
      });
      this.#put(n);
    });
  }

  #put(n) {
    void this.#ready.then(() => {
      const question = this.#questions.get(n);
      if (question) question.sent = this.send(question.frame);
    });
  }

  #receive(frame) {
    if (frame.t === 'answer') {
      const error = frame.error === undefined ? undefined : new Error(frame.error);
      this.#questions.get(frame.n)?.settle(error, frame.result);
    } else {
      this.trigger(frame.t, frame);
    }
  }

  #expectReady() {
    // Questions that already wait for the server keep their promise.
    if (!this.#isReady) return;
    this.#isReady = false;
    this.#ready = new Promise((resolve) => {
      this.#becomeReady = resolve;
    });
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket) socket.onclose = null;
    socket?.close();
    this.#afterLoss();
  }

  #lost() {
    this.#socket = undefined;
    this.#afterLoss();
    if (this.#stopped) return;
    // Spread out, so that a restarted server is not met by every page in the same moment.
    const pause = Math.min(FIRST_RETRY_MS * 2 ** this.#retries, LAST_RETRY_MS);
    this.#retries += 1;
    this.#retryTimer = setTimeout(() => this.connect(), pause * (0.5 + Math.random() / 2));
    this.trigger('lost');
  }

  #afterLoss() {
    this.#expectReady();
    for (const [n, question] of [...this.#questions]) {
      if (!question.sent) continue;
      if (question.changesNothing) this.#put(n);
      else question.settle(new Error('The connection was lost.'));
    }
  }
}
