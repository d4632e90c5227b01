// Labels for the values of the API.

export const AUDIENCES = [['MSP', 'Technicians (MSP)'], ['END_USER', 'Client staff (END_USER)']];

/** The label of a value. An unknown value is shown as it is. */
export const labelOf = (choices, value) => choices.find(([key]) => key === value)?.[1] ?? value;
