// Labels for the values of the API, and the language of the page.

/** The language of all texts, dates and numbers, whatever the browser's own language is. */
export const LOCALE = 'en';

/** A name of more characters is often shown in part, so that its tooltip has the whole. */
export const LONG_NAME = 30;

export const AUDIENCES = [['MSP', 'Technicians (MSP)'], ['END_USER', 'Client staff (END_USER)']];

/** The label of a value. An unknown value is shown as it is. */
export const labelOf = (choices, value) => choices.find(([key]) => key === value)?.[1] ?? value;
