/*
 * The protocol of expand.go: a selector that becomes a request for each connection that it finds, two workers, and everything
 * that can go wrong FAULTS times in any place.
 *
 * hop 0  searches, and writes down what it found, be it nothing: in its successor
 * hop 1  1 sends the first message of each request, 2 publishes the event that lists them, 3 settles
 *
 * The requests that come of it are carried out at once, so that a repeated step finds fewer connections than the one before.
 *
 * What is checked, in every state that can be reached:
 *     none is missed   each connection becomes a request, once
 *     no lie           the event, of which there is one, lists exactly the requests that were made
 *
 * The macros below each take one ingredient away. ./check runs the model as it is and with each of them, which must fail.
 */

#ifndef FAULTS
#define FAULTS 3        /* crashes and lost locks, in all */
#endif
#define N 2             /* connections */

mtype = { none, ready, locked, gone };

mtype message[2] = none;        /* the selector's hops */
byte  owner[2];                 /* whose lock it is; 0: nobody's */
bool  noted[N];                 /* what hop 1 carries */
bool  exists[N];                /* the connections */
mtype child[N] = none;          /* the first message of each request */
bool  knownHop, knownChild[N];  /* the queue's duplicate window */
byte  events = 0;
bool  told[N];                  /* what the event lists */
byte  faults = FAULTS;

#define FAILS   faults > 0 -> faults--
#define MINE(h) (message[h] == locked && owner[h] == me)

/* 1 the first message of a request, known by the selector's lineage and the connection's name */
inline make(c) {
    atomic {
#ifdef CHILD_ID_LIKE_A_HOP      /* a connection that is called 1 would be taken for a repeat of hop 1 */
        dropped = (c == 0 && knownHop);
#else
        dropped = false;
#endif
        if
#ifndef FRESH_CHILD_IDS         /* each repeat would make requests of its own */
        :: dropped || knownChild[c]
#else
        :: dropped
#endif
        :: else ->
            assert(child[c] == none);           /* once */
            knownChild[c] = true; child[c] = ready
        fi
    }
}

proctype Worker(byte me) {
    byte h, i; bool dropped; bool found[N];
end:
    do
    :: atomic { message[0] == ready -> h = 0; message[0] = locked; owner[0] = me };
       atomic { i = 0; do :: i < N -> found[i] = exists[i]; i++ :: else -> break od };      /* search */
       if :: atomic { FAILS; goto crashed } :: true fi;
#ifdef NOTHING_TOLD_AT_ONCE     /* a repeat that finds nothing any more tells that before the event is out */
       if :: !found[0] && !found[1] -> goto event :: else fi;
#endif
#ifdef NOT_WRITTEN_DOWN         /* what is found becomes requests at once, and a repeat finds what is left */
       goto requests;
#else
       atomic {                                                                             /* 1 the successor */
           if
           :: knownHop
           :: else ->
               knownHop = true; message[1] = ready; i = 0;
               do :: i < N -> noted[i] = found[i]; i++ :: else -> break od
           fi
       };
       goto settling;
#endif
    :: atomic { message[1] == ready -> h = 1; message[1] = locked; owner[1] = me };
       atomic { i = 0; do :: i < N -> found[i] = noted[i]; i++ :: else -> break od };
requests:
       i = 0;
       do
       :: i < N && found[i] -> make(i); i++; if :: atomic { FAILS; goto crashed } :: true fi
       :: i < N && !found[i] -> i++
       :: else -> break
       od;
event: atomic {                                                                             /* 2 the event */
           if
           :: events > 0
           :: else -> events++; i = 0; do :: i < N -> told[i] = found[i]; i++ :: else -> break od
           fi
       };
settling:
       if :: atomic { FAILS; goto crashed } :: true fi;
       atomic { if :: MINE(h) -> message[h] = gone :: else fi; goto received };             /* 3 */
crashed:
       atomic { if :: MINE(h) -> owner[h] = 0 :: else fi };
received:
       skip
    od
}

/* The broker, of its own accord: a lock runs out. */
proctype Broker(byte h) {
end:
    do
    :: atomic { message[h] == locked && owner[h] == 0 -> message[h] = ready }               /* of the dead */
    :: atomic { message[h] == locked && owner[h] != 0 && faults > 0 -> faults--; owner[h] = 0; message[h] = ready }
    od
}

/* What becomes of the requests. step.pml is the whole of it. */
proctype Children() {
end:
    do
    :: atomic { child[0] == ready -> child[0] = gone; exists[0] = false }
    :: atomic { child[1] == ready -> child[1] = gone; exists[1] = false }
    od
}

/* When nothing moves any more. */
proctype Rest() {
    timeout;
    assert(events == 1);
    assert(child[0] == gone && child[1] == gone);       /* none is missed */
    assert(told[0] && told[1])                          /* no lie */
}

init {
    atomic {
        exists[0] = true; exists[1] = true; message[0] = ready;
        run Worker(1); run Worker(2); run Children(); run Broker(0); run Broker(1); run Rest()
    }
}
