"""Histories under faults: many clients, one failing service, and a judge of all that was answered.

    python -m tests.histories [--seconds N] [--seed N] [--longest N] [--database sqlite|postgresql]

**Method.** Twelve clients call the real service (`python wsgi.py`: two workers on SQLite; two replicas on PostgreSQL
with a synchronous standby) while one fault after the other happens to it. Each call to an account is written down
with its beginning and its end, by the one monotonic clock of this process. Afterwards the history of each account is
judged: is there an order of its calls, in which none comes before one that had ended when it began, and in which a
model that takes one call at a time gives the very same answers? (Linearizability; the judge is in `judge.py`, the
models in `models.py`.) A call without an answer (a broken connection, a time-out, a 503) may have taken effect at any
time since it began, or never. What was acknowledged before and during a fault is asked for once more when it is over,
so nothing may be lost.

- An account's password, role, sessions and count of logins are one model: each is a register, and what binds them is
  judged as well, such as that no session outlives the password that opened it.
- A counter of wrong guesses gives exactly its limit: never one more, never one less, and only a login sets it back.
- A time step is good once and none after a newer one; a recovery code is good once.

**Seed.** It decides what each client does next, which fault comes when and for how long. It cannot decide how the
machine shares out its time: the same seed repeats what is done, and meets a rare race most of the time.

**Limits.** The search is exact, but it is NP-complete: so accounts are used in turns, few at a time, until their
history is long enough, above all of calls without an answer. Where the judge would look at too many states all the
same, it says "undecided", which is a failure, too. An answer that the service bases on two looks, such as "wrong
password" in a live session, is judged as two calls of that time. Calls to two accounts are not judged together: what
is promised concerns one. Times are too short for what only time ends: sessions that idle, windows of counters.
Passwords are hashed cheaply (`cheap_hashes/`), so that calls meet. No power is cut: what the kernel was given is not
lost with a process.
"""
