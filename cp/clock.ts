// What time it is: a dependency, so that tests decide.

export interface Clock {
  now(): Date;
}

export const systemClock: Clock = { now: () => new Date() };
