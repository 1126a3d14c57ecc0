import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';

/** The only public range of IPv6. Addresses that wrap an IPv4 address in an unlisted way are outside of it. */
const globalUnicast = ipaddr.parseCIDR('2000::/3') as [ipaddr.IPv6, number];

/** Metadata services of clouds inside public ranges: they give out the credentials of the machine (Azure). */
const metadataAddresses = new Set(['168.63.129.16']);

/**
 * Whether an IP address is on the public internet. False for this machine, its network, the metadata service of its cloud, and
 * addresses that lead to one of these (IPv4-mapped, NAT64, 6to4).
 * @param allowed ranges such as `10.1.0.0/16` that count as public too
 */
export function isPublicAddress(text: string, allowed: readonly string[] = []): boolean {
  if (!ipaddr.isValid(text)) return false;
  const address = ipaddr.process(text);
  if (allowed.some((range) => contains(range, address))) return true;
  // An IPv4 address that is wrapped in an IPv6 address does not count as public, whatever it is.
  if (ipaddr.parse(text).range() !== 'unicast' || metadataAddresses.has(address.toString())) return false;
  return address.kind() === 'ipv4' || (address as ipaddr.IPv6).match(globalUnicast);
}

/** Whether `text` is an IP address, or a range in CIDR notation. */
export function isAddressOrRange(text: string): boolean {
  const [address = '', ...bits] = text.split('/');
  // The library also accepts unusual notations, such as a plain number.
  return isIP(address) !== 0 && (bits.length === 0 || ipaddr.isValidCIDR(text));
}

/** Whether `text` is a range of addresses in CIDR notation. */
export function isAddressRange(text: string): boolean {
  return text.includes('/') && isAddressOrRange(text);
}

/**
 * Whether all addresses of `inner` are in `outer`. Both are addresses or ranges. IPv4 counts as a part of IPv6 (IPv4-mapped), as
 * it does for Node's `BlockList`.
 */
export function isWithin(inner: string, outer: string): boolean {
  const [address, bits] = asIpv6(inner);
  const [network, networkBits] = asIpv6(outer);
  return bits >= networkBits && address.match(network, networkBits);
}

function asIpv6(text: string): [ipaddr.IPv6, bits: number] {
  const [address = '', bits] = text.split('/');
  const parsed = ipaddr.parse(address);
  if (parsed.kind() === 'ipv6') return [parsed as ipaddr.IPv6, bits === undefined ? 128 : Number(bits)];
  return [(parsed as ipaddr.IPv4).toIPv4MappedAddress(), 96 + (bits === undefined ? 32 : Number(bits))];
}

function contains(range: string, address: ipaddr.IPv4 | ipaddr.IPv6): boolean {
  const [network, bits] = ipaddr.parseCIDR(range);
  return network.kind() === address.kind() && address.match(network as never, bits);
}
