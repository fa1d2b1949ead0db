// One thing at a time: what reads a record, asks the proxy and writes the record again must not meet another that does the same.

/** Return a function that runs async functions one after the other, in the order they came. */
export function turns() {
  let last = Promise.resolve();
  return (work) => {
    const done = last.then(work);
    last = done.catch(() => {});
    return done;
  };
}
