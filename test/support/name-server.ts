import { createSocket, type Socket } from 'node:dgram';
import dns from 'node:dns';
import { once } from 'node:events';
import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';

export interface NameServer {
  /** How many IPv4 addresses this process has asked for. */
  asked: () => number;
  close: () => void;
}

/**
 * A name server for this process, until it is closed.
 * @param addressesOf the addresses of a name; null gives no answer at all
 */
export async function startNameServer(addressesOf: (name: string) => string[] | null): Promise<NameServer> {
  let asked = 0;
  const socket: Socket = createSocket('udp4');
  socket.on('message', (query, peer) => {
    const nameEnd = query.indexOf(0, 12);
    const questionEnd = nameEnd + 5;
    const type = query.readUInt16BE(questionEnd - 4);
    const labels: string[] = [];
    for (let at = 12; at < nameEnd; at += query[at]! + 1)
      labels.push(query.toString('latin1', at + 1, at + 1 + query[at]!));
    const found = addressesOf(labels.join('.'));
    if (type === 1) asked += 1;
    if (found === null) return;
    const addresses = found.filter((address) => isIP(address) === (type === 1 ? 4 : 6));
    const header = Buffer.from(query.subarray(0, 12));
    header.writeUInt16BE(0x8180, 2);
    header.writeUInt16BE(addresses.length, 6);
    header.fill(0, 8);
    const records = addresses.map((address) => {
      const bytes = ipaddr.parse(address).toByteArray();
      return Buffer.from([0xc0, 12, 0, type, 0, 1, 0, 0, 0, 0, 0, bytes.length, ...bytes]);
    });
    const answer = [header, query.subarray(12, questionEnd), ...records];
    socket.send(Buffer.concat(answer), peer.port, peer.address);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const before = dns.getServers();
  dns.setServers([`127.0.0.1:${socket.address().port}`]);
  return {
    asked: () => asked,
    close: () => {
      dns.setServers(before);
      socket.close();
    },
  };
}
