-- The greatest horizon that was reported, in µs since 2020: nothing is numbered before it, also where the clock is set back.
create sequence deck.settled minvalue 0;
