package main

import (
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
)

// An entity is a queue, a topic or a subscription as the administration API describes it, as far as that matters to a worker.
// Durations are 0 where they cannot be read, and forever where there is none.
type entity struct {
	kind, name        string // kind is queue, topic or subscription
	status            admin.EntityStatus
	lock, ttl, idle   time.Duration
	duplicates        bool
	window            time.Duration
	deliveries        int
	deadLetters       bool // what expires
	sessions          bool
	partitioned       bool
	forwards, deadFwd string
	bytes, mostBytes  int64
	sized             bool // bytes is known
}

func queueEntity(name string, p admin.QueueProperties) entity {
	return entity{kind: "queue", name: name, status: value(p.Status), lock: duration(p.LockDuration), ttl: duration(p.DefaultMessageTimeToLive),
		idle: duration(p.AutoDeleteOnIdle), duplicates: value(p.RequiresDuplicateDetection), window: duration(p.DuplicateDetectionHistoryTimeWindow),
		deliveries: int(value(p.MaxDeliveryCount)), deadLetters: value(p.DeadLetteringOnMessageExpiration), sessions: value(p.RequiresSession),
		partitioned: value(p.EnablePartitioning), forwards: value(p.ForwardTo), deadFwd: value(p.ForwardDeadLetteredMessagesTo),
		mostBytes: int64(value(p.MaxSizeInMegabytes)) << 20}
}

func topicEntity(name string, p admin.TopicProperties) entity {
	return entity{kind: "topic", name: name, status: value(p.Status), ttl: duration(p.DefaultMessageTimeToLive), idle: duration(p.AutoDeleteOnIdle),
		duplicates: value(p.RequiresDuplicateDetection), window: duration(p.DuplicateDetectionHistoryTimeWindow),
		partitioned: value(p.EnablePartitioning), mostBytes: int64(value(p.MaxSizeInMegabytes)) << 20}
}

func subscriptionEntity(name string, p admin.SubscriptionProperties) entity {
	return entity{kind: "subscription", name: name, status: value(p.Status), ttl: duration(p.DefaultMessageTimeToLive), idle: duration(p.AutoDeleteOnIdle),
		deadLetters: value(p.DeadLetteringOnMessageExpiration), sessions: value(p.RequiresSession), forwards: value(p.ForwardTo)}
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// judgeQueue judges the request queue.
func judgeQueue(q entity, s settings) []finding {
	return present(
		judgeStatus("queue.status", q),
		judgeSessions("queue.sessions", q),
		judgeLock(q.lock),
		judgeDeliveries(q.deliveries, s.policy.MaxDeliveries),
		judgeDuplicates("queue.duplicateDetection", q, needed(q.lock, s.grace), 2*needed(q.lock, s.grace)),
		judgeExpiry(q),
		judgeLife(q.ttl, s.policy.GiveUpAfter),
		judgeForwarding(q),
		judgePartitions("queue.partitioning", q),
		judgeIdle("queue.autoDelete", q),
		judgeRoom("queue.room", q),
	)
}

// judgeEvents judges the topic (or queue) for events. Its duplicates come as late as a request waits, hence the days.
func judgeEvents(e entity, lock, grace time.Duration) []finding {
	findings := []finding{
		judgeStatus("events.status", e),
		judgeDuplicates("events.duplicateDetection", e, needed(lock, grace), 24*time.Hour),
		judgePartitions("events.partitioning", e),
		judgeIdle("events.autoDelete", e),
		judgeRoom("events.room", e),
	}
	if e.kind == "queue" {
		findings = append(findings, judgeSessions("events.sessions", e), judgeUnread("events.timeToLive", e))
	} else if e.ttl != forever {
		findings = append(findings, judgeUnread("events.timeToLive", e))
	}
	return present(findings...)
}

// judgeSubscription judges what the command events reads. Other readers have subscriptions of their own, which nobody names here.
func judgeSubscription(s entity) []finding {
	status := judgeStatus("subscription.status", s)
	if status.Result == isFailure { // for its readers, not for the worker
		status.Result = isWarning
	}
	findings := []finding{status, judgeUnread("subscription.timeToLive", s), judgeIdle("subscription.autoDelete", s)}
	if s.sessions {
		findings = append(findings, warning("subscription.sessions", "on: events carry no session id, and the command events cannot read them",
			"make the subscription anew without RequiresSession"))
	}
	if s.forwards != "" {
		findings = append(findings, warning("subscription.forwarding", "to "+s.forwards+": the command events sees nothing here",
			"name a subscription that keeps its messages as --subscription"))
	}
	return present(findings...)
}

// present leaves out what there was nothing to say about.
func present(findings ...finding) (told []finding) {
	for _, f := range findings {
		if f.Check != "" {
			told = append(told, f)
		}
	}
	return told
}

func judgeStatus(check string, e entity) finding {
	message := fmt.Sprintf("the %s is %s", e.kind, e.status)
	switch {
	case e.status == admin.EntityStatusActive:
		return fine(check, "Active")
	case check == "events.status" && e.status == admin.EntityStatusReceiveDisabled:
		return warning(check, message+": events are taken, and nobody can read them", "set its status to Active")
	}
	return failure(check, message, "set its status to Active")
}

func judgeSessions(check string, e entity) finding {
	if !e.sessions {
		return fine(check, "off")
	}
	return failure(check, "on: the worker knows no sessions, and Service Bus refuses it",
		fmt.Sprintf("make the %s anew without RequiresSession; it cannot be turned off", e.kind))
}

// A lock is renewed from its half on, which is a request that may have to connect first; that takes up to five seconds.
const (
	shortestLock = 10 * time.Second
	shortLock    = 30 * time.Second // as long as ARM may take for an answer
)

func judgeLock(lock time.Duration) finding {
	const check, do = "queue.lockDuration", "set the queue's LockDuration to PT1M"
	switch {
	case lock == 0:
		return unreadable(check)
	case lock < shortestLock:
		return failure(check, brief(lock)+": it runs out before it can be renewed, and every slow step is repeated", do)
	case lock < shortLock:
		return warning(check, brief(lock)+": a step may take longer, and hangs on a renewal that succeeds at once", do)
	}
	return fine(check, "%s", brief(lock))
}

func judgeDeliveries(limit, ours int) finding {
	const check = "queue.maxDeliveryCount"
	if limit > ours {
		return fine(check, "%d, above --max-deliveries %d", limit, ours)
	}
	return failure(check, fmt.Sprintf("%d, and --max-deliveries is %d: the broker dead-letters first, without an event", limit, ours),
		fmt.Sprintf("set the queue's MaxDeliveryCount to %d, or --max-deliveries below %d", ours+2, limit))
}

// needed is how much later than the first a repeat of a step may come: the lock runs out, and whoever had it drains.
func needed(lock, grace time.Duration) time.Duration { return lock + grace }

// usualWindow is Service Bus's own.
const usualWindow = 10 * time.Minute

// judgeDuplicates wants duplicate detection, over more than the least window, and better over the good one.
func judgeDuplicates(check string, e entity, least, good time.Duration) finding {
	const setting = "DuplicateDetectionHistoryTimeWindow"
	what := map[bool]string{true: "request", false: "event"}[check == "queue.duplicateDetection"]
	switch {
	case !e.duplicates:
		return failure(check, fmt.Sprintf("off: a step that is repeated after a crash leaves a second %s", what),
			fmt.Sprintf("make the %s anew with RequiresDuplicateDetection (tier Standard or Premium); it cannot be turned on later", e.kind))
	case e.window == 0:
		return unreadable(check)
	case e.window <= least:
		return failure(check,
			fmt.Sprintf("on, %s: a repeat may come %s later, the lock and --shutdown-grace, and leaves a second %s", brief(e.window), brief(least), what),
			fmt.Sprintf("set the %s's %s to %s", e.kind, setting, iso(max(good, usualWindow))))
	case e.window < good:
		return warning(check, fmt.Sprintf("on, %s: a late repeat leaves a second %s", brief(e.window), what),
			fmt.Sprintf("set the %s's %s to %s or more", e.kind, setting, iso(max(good, usualWindow))))
	}
	return fine(check, "on, %s", brief(e.window))
}

func judgeExpiry(q entity) finding {
	const check, do = "queue.deadLetteringOnExpiration", "turn DeadLetteringOnMessageExpiration on"
	switch {
	case q.deadLetters:
		return fine(check, "on")
	case q.ttl != forever:
		return failure(check, "off: a request that expires is gone without an event", do)
	}
	return warning(check, "off: a request whose sender gave it a time to live is gone without an event when it expires", do)
}

func judgeLife(ttl, giveUp time.Duration) finding {
	const check = "queue.timeToLive"
	switch {
	case ttl == 0:
		return unreadable(check)
	case ttl == forever:
		return fine(check, "forever")
	case ttl < giveUp:
		return warning(check,
			fmt.Sprintf("%s, less than --give-up-after %s: what nobody takes for so long ends as MessageExpired", brief(ttl), brief(giveUp)),
			fmt.Sprintf("set the queue's DefaultMessageTimeToLive to %s or more", iso(giveUp)))
	}
	return fine(check, "%s, no less than --give-up-after %s", brief(ttl), brief(giveUp))
}

// judgeUnread judges how long events wait for a reader.
func judgeUnread(check string, e entity) finding {
	switch {
	case e.ttl == 0:
		return unreadable(check)
	case e.ttl == forever:
		return fine(check, "forever")
	case e.kind == "topic":
		return warning(check, fmt.Sprintf("%s: no subscription keeps an event for longer", brief(e.ttl)), "raise the topic's DefaultMessageTimeToLive")
	case e.deadLetters:
		return fine(check, "%s, then dead-lettered", brief(e.ttl))
	}
	return warning(check, fmt.Sprintf("%s: an event that nobody reads for so long is gone without a trace", brief(e.ttl)),
		fmt.Sprintf("raise the %s's DefaultMessageTimeToLive, or turn DeadLetteringOnMessageExpiration on", e.kind))
}

func judgeForwarding(q entity) finding {
	const check = "queue.forwarding"
	switch {
	case q.forwards != "":
		return failure(check, "to "+q.forwards+": no request stays to be received", "leave the queue's ForwardTo empty")
	case q.deadFwd != "":
		return warning(check, "dead letters go to "+q.deadFwd+": what the broker gives up by itself is not found, and gets no event",
			"leave the queue's ForwardDeadLetteredMessagesTo empty")
	}
	return fine(check, "off")
}

// judgePartitions warns of partitions. Duplicates are told within one; the SDK gives a batch the id of its first message, and that the
// service chooses the partition by it is unverified. Sequence numbers, by which the program peeks, begin with the partition's number.
func judgePartitions(check string, e entity) finding {
	if !e.partitioned {
		return fine(check, "off")
	}
	return warning(check, "on: duplicates in different batches can get through, and peeking (parked, cancel, what expired) can miss messages",
		fmt.Sprintf("make the %s anew without EnablePartitioning; it cannot be turned off", e.kind))
}

func judgeIdle(check string, e entity) finding {
	if e.idle == 0 || e.idle == forever {
		return finding{}
	}
	return warning(check, fmt.Sprintf("after %s: then the %s is gone, dead letters and all", brief(e.idle), e.kind), "leave AutoDeleteOnIdle out")
}

// judgeRoom warns while there is still time.
func judgeRoom(check string, e entity) finding {
	const do = "drop what is settled from the dead-letter queue, which counts too, or raise MaxSizeInMegabytes"
	if !e.sized || e.mostBytes == 0 {
		return finding{}
	}
	used := fmt.Sprintf("%d of %d MB used", e.bytes>>20, e.mostBytes>>20)
	switch {
	case e.bytes >= e.mostBytes:
		return failure(check, used+": it is full, and takes nothing", do)
	case e.bytes >= e.mostBytes/5*4:
		return warning(check, used, do)
	}
	return fine(check, "%s", used)
}

func unreadable(check string) finding {
	return unclear(check, "the answer has no duration that this version can read", "")
}
