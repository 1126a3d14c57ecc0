/** What `simulateFleet` takes and gives; see fleet-simulation.mjs. Durations are seconds unless their name says otherwise. */
export interface SimulationOptions {
  instances: number;
  accounts: number;
  /** Processes over which the instances are spread evenly: at least two. */
  servers: number;
  /** Settings other than the defaults. */
  env?: Record<string, string>;
  log?: (text: string) => void;
}

export interface Simulation {
  placing: { assignmentsPerSecond: number; readyPerSecond: number; spread: number; inShard: number };
  /** One more instance, and a rebalancing. `fewest`: how many accounts have to move for an even load. */
  joining: { planned: number; moved: number; fewest: number; spread: number; seconds: number };
  /** An instance that is stopped in good order and stays away, and had `owned` accounts. */
  leaving: { owned: number; moved: number; movedOfOthers: number; spread: number; seconds: number };
  /** A server that dies with all of its instances, which had `owned` accounts. */
  killing: {
    instances: number;
    owned: number;
    moved: number;
    movedOfOthers: number;
    drivenAgain: number;
    spread: number;
    /** From the kill until the first and the last of them were ready elsewhere. */
    firstReadySeconds: number;
    lastReadySeconds: number;
  };
  doubleOwners: { sessions: number; overlaps: number; linkedAgain: number; inTheLog: number };
  /** Shares of the workspaces whose preferred instance changes. */
  routing: { fifthJoinsFour: number; hundredAndFirstJoins: number };
}

export function simulateFleet(options: SimulationOptions): Promise<Simulation>;
