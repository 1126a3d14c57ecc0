import { BadRequestException, Injectable } from '@nestjs/common';
import { SandboxOptions } from '../options.js';
import type { Build, Damage, LoadedBuild } from './build.js';
import { july } from './july.js';
import { june } from './june.js';
import { september } from './september.js';

/** All known builds, the newest last. A new build is one file, and one entry here. */
export const builds: readonly Build[] = [june, july, september];

/** Which build a browser loads. Open pages keep theirs until they load again. Only the first build survives a restart. */
@Injectable()
export class CurrentBuild {
  private build: LoadedBuild;
  /** The builds of single phones, by number. */
  private readonly own = new Map<string, LoadedBuild>();

  constructor({ build }: SandboxOptions) {
    this.build = build === undefined ? builds.at(-1)! : find(build);
  }

  /** The build for the browsers of a phone. Undefined means a browser that is not linked. */
  of(phone?: string): LoadedBuild {
    return (phone === undefined ? undefined : this.own.get(phone)) ?? this.build;
  }

  /** The phones that have this build as their own. */
  phonesOn({ version }: Build): string[] {
    return [...this.own].filter(([, own]) => own.version === version).map(([phone]) => phone);
  }

  /**
   * Chooses the build of one phone. Without a phone it chooses the build of all phones, also of those with a build of their own.
   * @param version a version or a name
   * @param damage what is broken in it; without it, the build is whole
   * @throws BadRequestException for an unknown build
   */
  put(version: string, { phone, damage }: { phone?: string; damage?: Damage } = {}): LoadedBuild {
    const found = find(version);
    const build = damage ? { ...found, damage } : found;
    if (phone === undefined) {
      this.build = build;
      this.own.clear();
    } else {
      this.own.set(phone, build);
    }
    return build;
  }
}

function find(version: string): Build {
  const found = builds.find((build) => build.version === version || build.name === version);
  if (found) return found;
  const known = builds.map((build) => `${build.version} (${build.name})`).join(', ');
  throw new BadRequestException(`There is no build ${version}. Known builds: ${known}.`);
}
