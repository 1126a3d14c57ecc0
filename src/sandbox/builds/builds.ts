import { BadRequestException } from '@nestjs/common';
import type { Build, Damage, LoadedBuild } from './build.js';
import { july } from './july.js';
import { june } from './june.js';
import { september } from './september.js';

/** All known builds, the newest last. A new build is one file, and one entry here. */
export const builds: readonly Build[] = [june, july, september];

/** The build that browsers load. Open pages keep theirs until they load again. It does not survive a restart. */
export class CurrentBuild {
  private build: LoadedBuild = builds.at(-1)!;

  get(): LoadedBuild {
    return this.build;
  }

  /**
   * @param version a version or a name
   * @param damage what is broken in it; without it, the build is whole
   * @throws BadRequestException for an unknown build
   */
  put(version: string, damage?: Damage): LoadedBuild {
    const found = builds.find((build) => build.version === version || build.name === version);
    if (!found) {
      const known = builds.map((build) => `${build.version} (${build.name})`).join(', ');
      throw new BadRequestException(`There is no build ${version}. Known builds: ${known}.`);
    }
    this.build = damage ? { ...found, damage } : found;
    return this.build;
  }
}
