// The wire's words as people read them.

export const AUDIENCES = [['MSP', 'Technicians (MSP)'], ['END_USER', 'Client staff (END_USER)']];

/** What a word of the wire is called; one that is not known is shown as it is. */
export const word = (choices, value) => choices.find(([key]) => key === value)?.[1] ?? value;
