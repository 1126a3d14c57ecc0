import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';

/** Where IPv6 gives out public addresses at all: also what wraps an IPv4 address without being listed lies outside. */
const globalUnicast = ipaddr.parseCIDR('2000::/3') as [ipaddr.IPv6, number];

/** Of public ranges, and yet a cloud's own: what answers there gives out the machine's credentials (Azure). */
const metadataAddresses = new Set(['168.63.129.16']);

/**
 * Whether an IP address is somebody on the public internet, rather than this machine, its network, its cloud's metadata
 * service, or an address that leads to one of these (IPv4-mapped, NAT64, 6to4).
 * @param allowed ranges such as `10.1.0.0/16` that count as public too
 */
export function isPublicAddress(text: string, allowed: readonly string[] = []): boolean {
  if (!ipaddr.isValid(text)) return false;
  const address = ipaddr.process(text);
  if (allowed.some((range) => contains(range, address))) return true;
  // What was wrapped in an IPv6 address is no public one, whatever it wraps.
  if (ipaddr.parse(text).range() !== 'unicast' || metadataAddresses.has(address.toString())) return false;
  return address.kind() === 'ipv4' || (address as ipaddr.IPv6).match(globalUnicast);
}

/** Whether `text` is an IP address, or a range of them in CIDR notation. */
export function isAddressOrRange(text: string): boolean {
  const [address = '', ...bits] = text.split('/');
  // The library also reads what nobody means by an address, such as a number.
  return isIP(address) !== 0 && (bits.length === 0 || ipaddr.isValidCIDR(text));
}

/** Whether `text` is a range of addresses in CIDR notation. */
export function isAddressRange(text: string): boolean {
  return text.includes('/') && isAddressOrRange(text);
}

function contains(range: string, address: ipaddr.IPv4 | ipaddr.IPv6): boolean {
  const [network, bits] = ipaddr.parseCIDR(range);
  return network.kind() === address.kind() && address.match(network as never, bits);
}
