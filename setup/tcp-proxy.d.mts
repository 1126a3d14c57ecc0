/** A way to a server that can be cut: what a program behind it sees is a network that has gone. */
export interface TcpProxy {
  /** The target's URL, through this proxy. */
  readonly url: string;
  /** Nothing passes any more; connections stay open and silent, as when a cable is pulled. */
  cut(): void;
  /** Lets connections through again; the ones from before are broken. */
  restore(): void;
  /** What is connected now stays open and silent for ever, as when a firewall forgets it; new connections pass. */
  drop(): void;
  close(): Promise<void>;
}

/** @param target URL of the server behind the proxy */
export function tcpProxy(target: string): Promise<TcpProxy>;
