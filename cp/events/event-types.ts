// What there is to be told of.

/** A capsule on its way from one state to another: for who watches it, and soon of no interest. */
export const TRANSIENT_EVENT = "capsule.state.changed";
