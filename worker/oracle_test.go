package worker_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"hsmsweep/internal/emulator/fault"
	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/worker"
)

// A plan is one request and how it may end.
type plan struct {
	name   string        // message id and request id
	body   string        // empty: a request for the connection of this name
	script string        // of the connection, for ARM; empty: deleted at once
	absent bool          // there is no such connection
	end    worker.Reason // its end when nothing goes wrong
	code   string        // and its error code
	sweeps int           // connections that it selects, by their endpoint; each is a request of its own
}

func (p plan) text() string {
	if p.body != "" {
		return p.body
	}
	return request(p.name)
}

func (p plan) connection() string {
	return poolID + "/privateEndpointConnections/" + p.name[strings.LastIndex(p.name, "/")+1:]
}

func (p plan) endpoint() string {
	return subscription + "/resourceGroups/net/providers/Microsoft.Network/privateEndpoints/of-" + p.name
}

// inHand is how many requests come of the plan, all of which may be in hand when something goes wrong.
func (p plan) inHand() int { return max(1, p.sweeps) }

// children are the requests that a selector becomes.
func (p plan) children() []plan {
	var children []plan
	for i := range p.sweeps {
		children = append(children, plan{name: fmt.Sprintf("%s/%s-%d", p.name, p.name, i), end: "deleted"})
	}
	return children
}

// kinds are requests of all kinds.
var kinds = []plan{
	{name: "at-once", end: "deleted"},
	{name: "not-there", absent: true, end: "absent"},
	{name: "location", script: `{"deletes":[{"status":202,"retryAfter":"20","operation":{"polls":1,"retryAfter":"15"}}]}`, end: "deleted"},
	{name: "location-200", script: `{"deletes":[{"status":202,"operation":{"end":"200 connection"}}]}`, end: "deleted"},
	{name: "async", script: `{"deletes":[{"status":202,"retryAfter":"30","operation":{"header":"Azure-AsyncOperation","polls":1,"retryAfter":"10"}}]}`, end: "deleted"},
	{name: "read-back", script: `{"deletes":[{"status":202,"operation":{"header":"none"}}]}`, end: "deleted"},
	{name: "conflict", script: `{"deletes":[{"status":409,"code":"ConflictError"},{"status":409,"code":"ConflictError"}]}`, end: "deleted"},
	{name: "throttled", script: `{"deletes":[{"status":429,"retryAfter":"20"}]}`, end: "deleted"},
	{name: "unavailable", script: `{"deletes":[{"status":503},{"cut":true}]}`, end: "deleted"},
	{name: "locked", script: always(`{"status":409,"code":"ScopeLocked"}`), end: "rejected", code: "ScopeLocked"},
	{name: "fails", script: always(`{"status":202,"operation":{"header":"Azure-AsyncOperation","end":"Failed","code":"InUse"}}`), end: "failed", code: "InUse"},
	{name: "guarded", body: `{"connectionId":"CONNECTION","status":["Disconnected"]}`, end: "deleted"},
	{name: "in-use", body: `{"connectionId":"CONNECTION","status":["Approved"]}`, end: "statusMismatch"},
	{name: "misspelt", body: `{"connectionID":"x"}`, end: "invalid", code: "InvalidRequest"},
	{name: "swept", body: `{"privateEndpointId":"ENDPOINT"}`, sweeps: 3, end: "expanded"},
	{name: "later", body: `{"connectionId":"CONNECTION","notBefore":"2000-01-01T00:10:00Z"}`, end: "deleted"},
}

// always is a script that does not run out, however often a step is repeated.
func always(answer string) string {
	return `{"deletes":[` + strings.Repeat(answer+",", 40) + answer + `]}`
}

// planned is one request of a kind, under a name of its own.
func planned(kind plan, name string) plan {
	kind.name = name
	kind.body = strings.NewReplacer("CONNECTION", kind.connection(), "ENDPOINT", kind.endpoint()).Replace(kind.body)
	return kind
}

// seedOf makes the pool for the plans.
func seedOf(plans []plan) string {
	var connections []string
	for _, p := range plans {
		for _, c := range p.children() {
			connections = append(connections, fmt.Sprintf(`{"name":%q,"status":"Disconnected","privateEndpointId":%q}`, c.name[strings.LastIndex(c.name, "/")+1:], p.endpoint()))
		}
		if !p.absent && p.sweeps == 0 {
			connections = append(connections, fmt.Sprintf(`{"name":%q,"status":"Disconnected","script":%s}`, p.name, cmp.Or(p.script, "{}")))
		}
	}
	return fmt.Sprintf(`{"pools":[{"id":%q,"connections":[%s]}]}`, poolID, strings.Join(connections, ","))
}

// An oracle watches a system while it runs, and judges it in the end.
type oracle struct {
	s     *system
	plans map[string]plan // by request id

	mu        sync.Mutex
	problems  map[string]bool
	disturbed int               // how often something went wrong on purpose
	published map[string]string // by request id: the event id
	tooEarly  map[string]bool   // by request id: the connection was there when its first event was sent
}

func newOracle(s *system, plans []plan) *oracle {
	o := &oracle{s: s, plans: map[string]plan{}, problems: map[string]bool{}, published: map[string]string{}, tooEarly: map[string]bool{}}
	for _, p := range plans {
		o.plans[p.name] = p
		for _, c := range p.children() {
			o.plans[c.name] = c
		}
	}
	return o
}

func (o *oracle) problem(format string, args ...any) { o.problems[fmt.Sprintf(format, args...)] = true }

// disturb counts something that went wrong on purpose: up to n requests may be a step behind for it.
func (o *oracle) disturb(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.disturbed += n
}

// sees looks at an operation before it is carried out.
func (o *oracle) sees(op fault.Operation) {
	if op.Service != fault.ServiceBus {
		return
	}
	switch {
	case op.Name == "send" && op.Target == "connection-events":
		id := requestOf(strings.TrimSuffix(op.MessageID, "/end"))
		exists := o.s.ARM.Exists(o.plans[id].connection())
		o.mu.Lock()
		defer o.mu.Unlock()
		switch before := o.published[id]; before {
		case op.MessageID:
		case "":
			o.published[id], o.tooEarly[id] = op.MessageID, exists
		default:
			o.problem("%s: events with two ids, %s and %s", id, before, op.MessageID)
		}
	case op.Name == "settle":
		o.successors()
	}
}

// requestOf is the request that a lineage is of.
func requestOf(lineage string) string {
	id, more, _ := strings.Cut(lineage, "@")
	if i := strings.LastIndex(more, "/"); i >= 0 { // a child's: number, pool, connection
		id += more[i:]
	}
	return id
}

// lineageOf is the lineage of a message that a worker sent.
func lineageOf(messageID string) (lineage string, ok bool) {
	i := strings.LastIndex(messageID, "/")
	if i < 0 {
		return "", false
	}
	if _, err := strconv.Atoi(messageID[i+1:]); err != nil {
		return messageID, true // a child's first message
	}
	return messageID[:i], true
}

// successors looks for requests that are in the queue more often than they may be: a message that is being repeated beside
// its successors, of which one waits.
func (o *oracle) successors() {
	e, err := o.s.Broker.Entity("connection-deletes")
	if err != nil {
		return
	}
	scheduled, ids := map[string]int{}, map[string]int{}
	for _, d := range e.Peek(0, 10_000) {
		if lineage, ok := lineageOf(d.Message.ID); ok {
			ids[d.Message.ID]++
			if d.State == broker.Scheduled {
				scheduled[lineage]++
			}
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, counts := range []map[string]int{scheduled, ids} {
		for id, n := range counts {
			if n > 1 {
				o.problem("%s is in the queue %d times", id, n)
			}
		}
	}
}

// judge looks at what came of it all. Nothing goes wrong any more, and the queue has come to rest.
func (o *oracle) judge() []string {
	dead := map[string]string{}
	for _, m := range o.s.deadLetters() {
		id, _, _ := strings.Cut(m.MessageID, "@")
		dead[id] = deref(m.DeadLetterReason)
	}
	c := o.s.counts()
	events := o.s.received()
	o.mu.Lock()
	defer o.mu.Unlock()
	if c.Active != 0 || c.Scheduled != 0 || c.Deferred != 0 {
		o.problem("left in the queue: %+v", c)
	}
	absentInstead, ended := 0, map[string]int{}
	for _, e := range events {
		p, known := o.plans[e.Data.RequestID]
		ended[p.name]++
		failed := e.Type == "Hsmsweep.ConnectionDeleteFailed"
		switch {
		case !known:
			o.problem("an event of %s, which nobody asked for", e.Data.RequestID)
		case e.Data.Outcome == "absent" && p.end == "deleted":
			absentInstead++
		case e.Data.Outcome != p.end || errorCode(e) != p.code && p.end != "absent":
			o.problem("%s ended as %s %+v, planned was %s %s", p.name, e.Data.Outcome, e.Data.Error, p.end, p.code)
		}
		if e.Data.Outcome == "deleted" && (o.tooEarly[p.name] || o.s.ARM.Exists(p.connection())) {
			o.problem("%s is told to be deleted, and was still there", p.name)
		}
		if p.sweeps > 0 && len(e.Data.Children) != p.sweeps {
			o.problem("%s became the requests %v, planned were %d", p.name, e.Data.Children, p.sweeps)
		}
		if reason, ok := dead[p.name]; ok != failed || ok && reason != errorCode(e) {
			o.problem("%s has event %s %s, and dead letter %q", p.name, e.Data.Outcome, errorCode(e), reason)
		}
	}
	for id := range o.plans {
		if ended[id] != 1 {
			o.problem("%s has %d events", id, ended[id])
		}
	}
	// A repeated step asks too early itself, and what it is told makes the successor's next question one, too.
	if early := o.early(); early > 2*o.disturbed {
		o.problem("%d exchanges before the time that ARM asked for, after %d disturbances", early, o.disturbed)
	}
	if absentInstead > o.disturbed {
		o.problem("%d ended as absent instead of deleted, after %d disturbances", absentInstead, o.disturbed)
	}
	if v := o.s.Broker.Violations(); o.disturbed == 0 && v != (broker.Violations{}) {
		o.problem("violations: %+v", v)
	}
	return slices.Sorted(maps.Keys(o.problems))
}

// early counts exchanges about a connection before the time that ARM asked for at the one before.
func (o *oracle) early() int {
	n, next := 0, map[string]time.Time{}
	for _, x := range o.s.ARM.Exchanges() {
		if x.Connection == "" {
			continue
		}
		if x.Time.Before(next[x.Connection]) {
			n++
		}
		seconds, _ := strconv.Atoi(x.RetryAfter)
		next[x.Connection] = x.Time.Add(time.Duration(seconds) * time.Second)
	}
	return n
}

// rest waits until the queue is empty.
func (s *system) rest(most time.Duration) bool {
	for began := time.Now(); time.Since(began) < most; {
		if c := s.counts(); c.Active == 0 && c.Scheduled == 0 {
			return true
		}
		<-time.After(10 * time.Second)
	}
	return false
}

// received takes all events that there are.
func (s *system) received() []event {
	e, err := s.Broker.Entity("connection-events/Subscriptions/all")
	if err != nil {
		s.t.Fatal(err)
	}
	if n := e.Counts().Active; n > 0 {
		return s.events(n)
	}
	return nil
}
