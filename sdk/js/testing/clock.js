// The time of a test: it stands still until the test moves it.

const RealDate = globalThis.Date;

/** Unix seconds that a test moves. `install` makes `Date` tell them, too, until `restore`. */
export class FakeClock {
  constructor(now = 1_700_000_000) {
    this.now = now;
  }

  /** Move on; FakeHost.advance does this and fires the timers on the way. */
  advance(seconds) {
    if (!(seconds >= 0)) throw new RangeError(`time does not go back: ${seconds}`);
    this.now += seconds;
  }

  /** Make Date.now() and new Date() tell this clock's time, in the test and in the plugin. */
  install() {
    const milliseconds = () => Math.round(this.now * 1000);
    globalThis.Date = class Date extends RealDate {
      constructor(...given) {
        super(...(given.length === 0 ? [milliseconds()] : given));
      }
      static now() {
        return milliseconds();
      }
    };
    return this;
  }

  restore() {
    globalThis.Date = RealDate;
  }
}
