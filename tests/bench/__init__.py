"""How fast authsvc is: `python -m tests.bench` measures it against two servers that do nothing, on this machine.

What is compared
    Times of one machine say little about another, and nothing about an hour with other neighbours. So every speed is
    told as a ratio to something that ran in the same minute on the same cores:

    - session checks (`/api/auth/verify`, `/AccAdmin/getLoginInfo`) to a Flask application of three lines that answers
      `{"hello": "world"}` and does nothing else, served by Granian as authsvc runs it; the same on gunicorn (gthread,
      2 workers x 8 threads), the usual way, is told beside it. A check does all that is promised: the token, session,
      account, role and permissions read from the database, headers, and its line in the log, which is on, at INFO.
      A signature is verified once: a token that is not among the last 4,096 of its worker takes 15 us more;
    - logins to bare argon2id with the same parameters, one thread per core;
    - checks during a flood of logins to the same checks just before it;
    - checks among many accounts and sessions to the same checks among 1,000.

How it is measured
    authsvc is `python wsgi.py` with its defaults (two workers, the limits of section "Guessing" lifted, or else a
    flood would be refused and not hashed). PostgreSQL is a real server on the same cores, with its default durability.
    Everything, the load included, shares two cores: where there are more, the rest is left alone. Where Linux shares
    them out among sessions or containers first, a low priority counts only within one. All servers are started in one
    session, but each process that PostgreSQL makes for a connection leads one of its own: with autogroup on, as it is
    on most machines, checks and logins on PostgreSQL get in each other's way more than priorities would have it.

    The load is a process of its own: wrk where it is installed, else `tests/bench/load.py`. It keeps `CONNECTIONS`
    connections alive, each sending its next request when it has the answer to the last, and goes through the tokens
    of 1,000 sessions of 1,000 accounts, so that no row is the only one. Any HTTP status but 200 stops the bench, save
    among the guesses of a flood, which are all refused, and in the soak; of the console, whose status is always 200,
    one answer's body is looked at beforehand. With wrk a turn lasts a whole second at the least.

    A check notes "last seen", a write, once a minute and session. That is kept out (all sessions are seen just before
    each turn), as else one turn would have all of these writes and the next none.

    Whatever is compared takes turns within each round: a neighbour who takes half the machine for ten seconds slows
    all of them. A ratio is taken within its round; shown is the median over the rounds, with the lowest and highest.
    Hello on Granian has two tries a round, and the better one counts: a yardstick should stand still. What a check
    costs among more sessions is told by the lowest CPU of each, because what disturbs a round only adds to it.

    Rates and latencies are what the load's process sees. CPU is user and system time of all processes of a server,
    from /proc, by the requests answered; the database's is shown apart. Unlike rates it hardly depends on neighbours.
    Memory is PSS (pages that processes share are counted once in all), summed over a server's processes, the highest
    of samples taken during the load. Statements are counted in this process, at the
    database's driver.

What it cannot tell
    How fast authsvc is on your machine, and behind a network. The load takes its share of the two cores from slow and
    fast servers alike, so differences between servers look smaller than they are: compare CPU per request, too.
"""
