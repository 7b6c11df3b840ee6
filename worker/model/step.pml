/*
 * The protocol of apply.go: one request, two workers, and everything that can go wrong FAULTS times in any place.
 *
 * A request is a chain of messages, hop 0 from outside and each later one the successor of the one before. A worker locks a
 * message, asks ARM one thing, and then, always in this order,
 *
 *     1  schedules the successor, or
 *     2  publishes the event (and if that fails, 1 with the end written down),
 *     3  settles the message.
 *
 * Ids: a successor is known by its hop, the event by its lineage; a queue and a topic drop what they know already. They remember
 * for as long as somebody might repeat a step (README: the duplicate windows).
 *
 * What is checked, in every state that can be reached:
 *     no loss           a message is settled only when the request lives on or its event is out
 *     no second end     the topic passes on one event, whatever workers come to
 *     no second         no hop is in the queue twice, and none comes back after it was settled
 *       live successor
 *     no lie            "deleted" is published only of a connection that is gone
 *     it ends           when nothing moves any more, the event is out and the queue is empty
 *
 * The macros below each take one ingredient away. ./check runs the model as it is and with each of them, which must fail.
 */

#ifndef FAULTS
#define FAULTS 3        /* crashes, lost locks, refused or unanswered sends, in all */
#endif
#define LATER  1        /* times that ARM answers 409, 429 or 503 to a DELETE */
#define POLLS  1        /* times that it answers 202 to a poll */
#define HOPS   (4 + LATER + POLLS + FAULTS)

mtype = { none, scheduled, ready, locked, gone };       /* a message */
mtype = { delete, poll, publish };                      /* what its step is for: the Attempt */
mtype = { wait, deleted, absent };                      /* what ARM's answer means */

mtype message[HOPS] = none;
chan  queue = [HOPS + FAULTS] of { byte };               /* what may be received */
mtype stage[HOPS];
mtype noted[HOPS];      /* the end that is written down, of a hop that only publishes */
byte  owner[HOPS];      /* whose lock it is; 0: its process died */
bool  known[HOPS];      /* the queue's duplicate window */

bool  exists = true, operation = false;                 /* ARM's side */
byte  later = LATER, polls = POLLS;

byte  events = 0;       /* that the topic passed on */
bool  forgotten = false;                                /* the topic's duplicate window is over */
byte  faults = FAULTS;

inline offer(hop) { message[hop] = ready; queue!hop }

inline live(yes) {      /* is the request in the queue? */
    yes = false; i = 0;
    do
    :: i < HOPS -> yes = yes || (message[i] != none && message[i] != gone); i++
    :: else -> break
    od
}

/* The broker takes a successor, unless it knows the id. */
inline enqueue(hop, what, end) {
#ifdef ONE_ID_FOR_ALL_HOPS      /* the second successor is taken for a repeat of the first, and swallowed */
    id = 1;
#else
    id = hop;
#endif
    if
#ifndef FRESH_IDS               /* each repeat of a step would make a successor of its own */
    :: known[id]
#else
    :: false
#endif
    :: else ->
        assert(message[hop] == none);                   /* no second live successor */
        known[id] = true;
        message[hop] = scheduled; stage[hop] = what; noted[hop] = end
    fi
}

/* The topic takes an event, unless it knows the id, which is the lineage's and not the step's. */
inline pass_on(end) {
    assert(end != deleted || !exists);                  /* no lie */
    if
#ifndef EVENT_ID_PER_STEP       /* two workers on two hops would end the request twice */
    :: events > 0 && !forgotten
#else
    :: false
#endif
    :: else -> events++; assert(events <= 1)            /* no second end */
    fi
}

inline ask(what, answer) {
    if
    :: what == delete && !exists                -> answer = absent          /* 204 */
    :: what == delete && operation              -> answer = wait            /* 202 or 409: it is under way */
    :: what == delete && exists && !operation   ->
        if
        :: answer = deleted; exists = false                                 /* 200 */
        :: answer = wait; operation = true                                  /* 202 */
        :: later > 0 -> later--; answer = wait                              /* 409, 429, 503 */
        fi
    :: what == poll && operation && polls > 0   -> polls--; answer = wait   /* 202 */
    :: what == poll                             -> answer = deleted; exists = false; operation = false
    fi
}

/* 3: the commit point. With the lock lost nothing happens: somebody else has the message. */
inline settle(hop) {
    atomic {
        if
        :: message[hop] == locked && owner[hop] == me ->
            message[hop] = gone;
            live(yes);
#ifndef SETTLE_FIRST
            assert(yes || events > 0)                   /* no loss */
#endif
        :: else
        fi
    }
}

/* Sending fails in two ways: not done, or done and the answer lost. The sender cannot tell them apart. */
#define FAILS   faults > 0 -> faults--

proctype Worker(byte me) {
    byte h, i, id; mtype answer, what, next; bool yes, ok;
end:
    do
    :: atomic { queue?h -> message[h] = locked; owner[h] = me; what = stage[h] };
#ifdef SETTLE_FIRST             /* a crash before 1 or 2 loses the request */
       settle(h);
#endif
       if
       :: atomic { what == publish -> answer = noted[h] }
       :: atomic { what != publish -> ask(what, answer) }
       :: atomic { FAILS; goto crashed }
       fi;
       next = (operation -> poll : delete);

       ok = true;
       if                                               /* 2 publish the event */
       :: answer != wait ->
            if
            :: atomic { pass_on(answer) }
            :: atomic { FAILS; ok = false }
            :: atomic { FAILS; pass_on(answer); ok = false }
            fi;
            next = publish
       :: else
       fi;
       if :: atomic { FAILS; goto crashed } :: true fi;

       if                                               /* 1 schedule the successor */
       :: answer == wait || !ok ->
#ifdef END_NOT_WRITTEN_DOWN     /* an event that could not be published is given up */
            if :: !ok -> goto settling :: else fi;
#endif
            assert(h + 1 < HOPS);
            if
            :: atomic { enqueue(h + 1, next, answer); ok = true }
            :: atomic { FAILS; ok = false }
            :: atomic { FAILS; enqueue(h + 1, next, answer); ok = false }
            fi;
            if
            :: atomic { !ok -> /* give back */ if :: owner[h] == me && message[h] == locked -> owner[h] = 0; offer(h) :: else fi; goto received }
            :: ok
            fi
       :: else
       fi;
       if :: atomic { FAILS; goto crashed } :: true fi;

settling:
       settle(h);                                  /* 3 settle: by whoever has the lock */
       goto received;
crashed:
       atomic { if :: owner[h] == me && message[h] == locked -> owner[h] = 0 :: else fi };
received:
       skip
    od
}

/* The broker, of its own accord, for one hop: its schedule falls due, its lock runs out. */
proctype Broker(byte h) {
end:
    do
    :: atomic { message[h] == scheduled -> offer(h) }
    :: atomic { message[h] == locked && owner[h] == 0 -> offer(h) }                         /* of the dead */
    :: atomic { message[h] == locked && owner[h] != 0 && faults > 0 -> faults--; owner[h] = 0; offer(h) }
#ifdef TOPIC_WINDOW_TOO_SHORT   /* a late repeat's event is passed on as well; only its id tells */
    :: atomic { events == 1 && !forgotten -> forgotten = true }
#endif
#ifdef QUEUE_WINDOW_TOO_SHORT   /* a late repeat makes a successor of what is over */
    :: atomic { known[h] -> known[h] = false }
#endif
    od
}

/* When nothing moves any more. */
proctype Rest() {
    byte i; bool yes;
    timeout;
    atomic { live(yes); assert(events == 1 && !yes) }           /* it ends */
}

init {
    atomic {
        byte h = 0;
        stage[0] = delete; offer(0);
        run Worker(1); run Worker(2); run Rest();
        do :: h < HOPS -> run Broker(h); h++ :: else -> break od
    }
}
