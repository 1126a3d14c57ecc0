import { Injectable } from '@nestjs/common';
import { SandboxLogger } from '../options.js';

const MAX_UNKNOWN_MODULES = 200;
const NO_CHAT_STATES = { composing: 0, recording: 0, paused: 0 };

/** Counts what browsers do and what faults do to them. */
@Injectable()
export class BrowserCounters {
  /** How often browsers showed each state to the other side of a chat, by WhatsApp's words. */
  chatStates: Record<keyof typeof NO_CHAT_STATES, number> = { ...NO_CHAT_STATES };
  /** Frames that the fault `silent` dropped. */
  unheard = 0;
  /** How often the fault `reloadAfterSendRate` reloaded a page. */
  reloads = 0;
  /** How often browsers asked whether a number is registered. */
  numberChecks = 0;
  /** How often two live browsers connected with one credential. */
  conflicts = 0;
  private readonly modules = new Map<string, number>();

  constructor(private readonly logger: SandboxLogger) {}

  /** How often whatsapp-web.js asked for each module that the page lacks. */
  get unknownModules(): Record<string, number> {
    return Object.fromEntries(this.modules);
  }

  /** Counts a state that a browser shows. */
  countChatState(state: string): void {
    if (isChatState(state)) this.chatStates[state] += 1;
  }

  /** Counts a request for a module that the page lacks. */
  countUnknownModule(name: string): void {
    const known = this.modules.get(name);
    if (known === undefined) {
      if (this.modules.size >= MAX_UNKNOWN_MODULES) return;
      this.logger.warn({ module: name }, 'the sandbox page lacks a module');
    }
    this.modules.set(String(name).slice(0, 100), (known ?? 0) + 1);
  }

  /** Sets everything to zero. */
  clear(): void {
    this.chatStates = { ...NO_CHAT_STATES };
    this.unheard = 0;
    this.reloads = 0;
    this.numberChecks = 0;
    this.conflicts = 0;
    this.modules.clear();
  }
}

function isChatState(state: string): state is keyof typeof NO_CHAT_STATES {
  return Object.hasOwn(NO_CHAT_STATES, state);
}
