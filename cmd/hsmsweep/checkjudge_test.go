package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
	"github.com/google/go-cmp/cmp"

	"hsmsweep/deletion"
	"hsmsweep/worker"
)

// goodQueue is a queue that nothing is to be said about.
func goodQueue() entity {
	return entity{kind: "queue", name: "q", status: admin.EntityStatusActive, lock: time.Minute, ttl: forever, idle: forever, duplicates: true,
		window: 10 * time.Minute, deliveries: 10, deadLetters: true, mostBytes: 1 << 30, sized: true}
}

func goodTopic() entity {
	return entity{kind: "topic", name: "t", status: admin.EntityStatusActive, ttl: forever, idle: forever, duplicates: true, window: 7 * day}
}

// usual are run's defaults.
func usual() settings {
	return settings{concurrency: 64, grace: 25 * time.Second, policy: worker.Policy{GiveUpAfter: day, MaxDeliveries: 8}}
}

// notFine are the findings that are not ok, as "result check".
func notFine(findings []finding) string {
	var words []string
	for _, f := range findings {
		if f.Result != isOK {
			words = append(words, string(f.Result)+" "+f.Check)
		}
	}
	return strings.Join(words, ", ")
}

// wantWords looks for words in a finding, and for a piece of advice wherever something would break.
func wantWords(t *testing.T, findings []finding, words string) {
	t.Helper()
	all := ""
	for _, f := range findings {
		all += f.text() + "\n"
		if f.Message == "" || f.Result == isFailure && f.Do == "" {
			t.Errorf("%+v does not say what is wrong, or what to do", f)
		}
	}
	if !strings.Contains(all, words) {
		t.Errorf("findings are\n%swant %q among them", all, words)
	}
}

func TestJudgeQueue(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*entity, *settings)
		want   string
		words  string
	}{
		{"as it should be", func(*entity, *settings) {}, "", "on, 10m"},
		{"disabled", func(q *entity, _ *settings) { q.status = admin.EntityStatusDisabled }, "failure queue.status", "is Disabled"},
		{"takes nothing", func(q *entity, _ *settings) { q.status = admin.EntityStatusSendDisabled }, "failure queue.status", "set its status to Active"},
		{"gives nothing", func(q *entity, _ *settings) { q.status = admin.EntityStatusReceiveDisabled }, "failure queue.status", "ReceiveDisabled"},
		{"sessions", func(q *entity, _ *settings) { q.sessions = true }, "failure queue.sessions", "anew without RequiresSession"},
		{"the shortest lock there is", func(q *entity, _ *settings) { q.lock = 5 * time.Second }, "failure queue.lockDuration", "PT1M"},
		{"a lock just too short", func(q *entity, _ *settings) { q.lock = shortestLock - 1 }, "failure queue.lockDuration", ""},
		{"a short lock", func(q *entity, _ *settings) { q.lock = shortestLock }, "warning queue.lockDuration", "10s"},
		{"a lock just too short to be good", func(q *entity, _ *settings) { q.lock = shortLock - 1 }, "warning queue.lockDuration", ""},
		{"the portal's lock", func(q *entity, _ *settings) { q.lock = shortLock }, "", "30s"},
		{"the longest lock", func(q *entity, _ *settings) { q.lock, q.window = longestLock, 11*time.Minute }, "", "5m"},
		{"a lock that cannot be read", func(q *entity, _ *settings) { q.lock = 0 }, "unknown queue.lockDuration", ""},
		{"as many deliveries as ours", func(q *entity, _ *settings) { q.deliveries = 8 }, "failure queue.maxDeliveryCount", "MaxDeliveryCount to 10, or --max-deliveries below 8"},
		{"one delivery more than ours", func(q *entity, _ *settings) { q.deliveries = 9 }, "", "9, above --max-deliveries 8"},
		{"more deliveries wanted", func(_ *entity, s *settings) { s.policy.MaxDeliveries = 10 }, "failure queue.maxDeliveryCount", "--max-deliveries is 10"},
		{"no duplicate detection", func(q *entity, _ *settings) { q.duplicates = false }, "failure queue.duplicateDetection", "cannot be turned on later"},
		{"the shortest window", func(q *entity, _ *settings) { q.window = 20 * time.Second }, "failure queue.duplicateDetection", "1m25s later"},
		{"a window of lock and drain", func(q *entity, _ *settings) { q.window = 85 * time.Second }, "failure queue.duplicateDetection", "PT10M"},
		{"a window just beyond", func(q *entity, _ *settings) { q.window = 86 * time.Second }, "warning queue.duplicateDetection", "PT10M or more"},
		{"a window twice that", func(q *entity, _ *settings) { q.window = 170 * time.Second }, "", "on, 2m50s"},
		{"the longest lock and the usual window", func(q *entity, _ *settings) { q.lock = longestLock }, "warning queue.duplicateDetection", "PT10M50S or more"},
		{"a long drain", func(_ *entity, s *settings) { s.grace = 10 * time.Minute }, "failure queue.duplicateDetection", "PT22M"},
		{"a window that cannot be read", func(q *entity, _ *settings) { q.window = 0 }, "unknown queue.duplicateDetection", ""},
		{"no dead-lettering on expiry", func(q *entity, _ *settings) { q.deadLetters = false }, "warning queue.deadLetteringOnExpiration", "a time to live"},
		{"nor that, and a time to live", func(q *entity, _ *settings) { q.deadLetters, q.ttl = false, 14*day }, "failure queue.deadLetteringOnExpiration", "without an event"},
		{"a time to live", func(q *entity, _ *settings) { q.ttl = 14 * day }, "", "14 days, no less than --give-up-after 24h"},
		{"a time to live as long as a request", func(q *entity, _ *settings) { q.ttl = day }, "", "24h"},
		{"a short time to live", func(q *entity, _ *settings) { q.ttl = day - 1 }, "warning queue.timeToLive", "P1D or more"},
		{"requests that live longer", func(q *entity, s *settings) { q.ttl, s.policy.GiveUpAfter = day, 36*time.Hour }, "warning queue.timeToLive", "PT36H or more"},
		{"a time to live that cannot be read", func(q *entity, _ *settings) { q.ttl = 0 }, "unknown queue.timeToLive", ""},
		{"forwards", func(q *entity, _ *settings) { q.forwards = "elsewhere" }, "failure queue.forwarding", "to elsewhere"},
		{"forwards its dead letters", func(q *entity, _ *settings) { q.deadFwd = "graves" }, "warning queue.forwarding", "ForwardDeadLetteredMessagesTo"},
		{"partitions", func(q *entity, _ *settings) { q.partitioned = true }, "warning queue.partitioning", "EnablePartitioning"},
		{"deleted when idle", func(q *entity, _ *settings) { q.idle = 7 * day }, "warning queue.autoDelete", "after 7 days"},
		{"nearly full", func(q *entity, _ *settings) { q.bytes = 900 << 20 }, "warning queue.room", "900 of 1024 MB"},
		{"full", func(q *entity, _ *settings) { q.bytes = 1 << 30 }, "failure queue.room", "it is full"},
		{"of no known size", func(q *entity, _ *settings) { q.sized, q.bytes = false, 1<<40 }, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q, s := goodQueue(), usual()
			tt.change(&q, &s)
			got := judgeQueue(q, s)
			if diff := cmp.Diff(tt.want, notFine(got)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			wantWords(t, got, tt.words)
		})
	}
}

func TestJudgeEvents(t *testing.T) {
	asQueue := func(e *entity) { e.kind, e.deadLetters = "queue", true }
	for _, tt := range []struct {
		name   string
		change func(*entity)
		want   string
		words  string
	}{
		{"as it should be", func(*entity) {}, "", "on, 7 days"},
		{"no duplicate detection", func(e *entity) { e.duplicates = false }, "failure events.duplicateDetection", "make the topic anew"},
		{"a window shorter than a lock and a drain", func(e *entity) { e.window = time.Minute }, "failure events.duplicateDetection", "P1D"},
		{"the usual window", func(e *entity) { e.window = usualWindow }, "warning events.duplicateDetection", "a second event"},
		{"a window of a day", func(e *entity) { e.window = day }, "", "on, 24h"},
		{"disabled", func(e *entity) { e.status = admin.EntityStatusSendDisabled }, "failure events.status", "the topic is SendDisabled"},
		{"read by nobody", func(e *entity) { e.status = admin.EntityStatusReceiveDisabled }, "warning events.status", "nobody can read them"},
		{"a time to live", func(e *entity) { e.ttl = day }, "warning events.timeToLive", "no subscription keeps"},
		{"partitions", func(e *entity) { e.partitioned = true }, "warning events.partitioning", ""},
		{"deleted when idle", func(e *entity) { e.idle = day }, "warning events.autoDelete", "the topic is gone"},
		{"full", func(e *entity) { e.sized, e.bytes, e.mostBytes = true, 5<<30, 5<<30 }, "failure events.room", ""},
		{"a queue", asQueue, "", ""},
		{"a queue with sessions", func(e *entity) { asQueue(e); e.sessions = true }, "failure events.sessions", "make the queue anew"},
		{"a queue that keeps what expires", func(e *entity) { asQueue(e); e.ttl = day }, "", "24h, then dead-lettered"},
		{"a queue that does not", func(e *entity) { asQueue(e); e.ttl, e.deadLetters = day, false }, "warning events.timeToLive", "gone without a trace"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := goodTopic()
			tt.change(&e)
			got := judgeEvents(e, time.Minute, 25*time.Second)
			if diff := cmp.Diff(tt.want, notFine(got)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			wantWords(t, got, tt.words)
		})
	}
}

// TestJudgeSubscription never finds a failure: the worker does without.
func TestJudgeSubscription(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*entity)
		want   string
	}{
		{"as it should be", func(*entity) {}, ""},
		{"disabled", func(e *entity) { e.status = admin.EntityStatusDisabled }, "warning subscription.status"},
		{"a time to live", func(e *entity) { e.ttl = day }, "warning subscription.timeToLive"},
		{"a time to live, then dead-lettered", func(e *entity) { e.ttl, e.deadLetters = day, true }, ""},
		{"sessions", func(e *entity) { e.sessions = true }, "warning subscription.sessions"},
		{"forwards", func(e *entity) { e.forwards = "elsewhere" }, "warning subscription.forwarding"},
		{"deleted when idle", func(e *entity) { e.idle = day }, "warning subscription.autoDelete"},
	} {
		e := entity{kind: "subscription", status: admin.EntityStatusActive, ttl: forever, idle: forever}
		tt.change(&e)
		if got := notFine(judgeSubscription(e)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestEntities takes what the administration API says, and what it leaves out.
func TestEntities(t *testing.T) {
	got := queueEntity("q", admin.QueueProperties{Status: new(admin.EntityStatusActive), LockDuration: new("PT30S"), MaxSizeInMegabytes: new(int32(2)),
		RequiresDuplicateDetection: new(true), DuplicateDetectionHistoryTimeWindow: new("P1DT12H"), DefaultMessageTimeToLive: new("P10675199DT2H48M5.4775807S"),
		MaxDeliveryCount: new(int32(3)), DeadLetteringOnMessageExpiration: new(true), RequiresSession: new(true), EnablePartitioning: new(true),
		ForwardTo: new("a"), ForwardDeadLetteredMessagesTo: new("b"), AutoDeleteOnIdle: new("P1Y")})
	want := entity{kind: "queue", name: "q", status: admin.EntityStatusActive, lock: 30 * time.Second, duplicates: true, window: 36 * time.Hour, ttl: forever,
		deliveries: 3, deadLetters: true, sessions: true, partitioned: true, forwards: "a", deadFwd: "b", mostBytes: 2 << 20}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(entity{})); diff != "" {
		t.Errorf("entity (-want +got):\n%s", diff)
	}
	judgeQueue(queueEntity("q", admin.QueueProperties{}), usual()) // it must not panic
	judgeEvents(topicEntity("t", admin.TopicProperties{}), time.Minute, 0)
	judgeSubscription(subscriptionEntity("s", admin.SubscriptionProperties{}))
}

func TestDurations(t *testing.T) {
	for _, tt := range []struct {
		d          time.Duration
		brief, iso string
	}{
		{time.Minute, "1m", "PT1M"}, {10 * time.Minute, "10m", "PT10M"}, {85 * time.Second, "1m25s", "PT1M25S"}, {time.Hour, "1h", "PT1H"}, {90 * time.Minute, "1h30m", "PT1H30M"},
		{day, "24h", "P1D"}, {36 * time.Hour, "36h", "PT36H"}, {14 * day, "14 days", "P14D"}, {20 * time.Second, "20s", "PT20S"}, {time.Hour + time.Second, "1h0m1s", "PT1H0M1S"},
	} {
		if brief, iso := brief(tt.d), iso(tt.d); brief != tt.brief || iso != tt.iso {
			t.Errorf("%v is %q and %q, want %q and %q", tt.d, brief, iso, tt.brief, tt.iso)
		}
		if back := duration(&tt.iso); back != tt.d {
			t.Errorf("%s is read as %v, want %v", tt.iso, back, tt.d)
		}
	}
	if got := brief(forever); got != "forever" {
		t.Errorf("for ever is %q", got)
	}
}

func TestJudgeFlags(t *testing.T) {
	s := usual()
	if got := notFine(judgeFlags(s)); got != "" {
		t.Errorf("run's defaults: %s", got)
	}
	s.concurrency, s.grace = 1001, 28*time.Second
	if got, want := notFine(judgeFlags(s)), "warning flags.concurrency, warning flags.shutdownGrace"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestJudgeConnectionString(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	signature := func(se int64) string {
		return fmt.Sprintf("Endpoint=sb://x.servicebus.windows.net;SharedAccessSignature=SharedAccessSignature sr=x&sig=a%%2Bb%%3D&se=%d&skn=k", se)
	}
	for _, tt := range []struct {
		text  string
		want  result
		words string
	}{
		{"Endpoint=sb://x.servicebus.windows.net/;SharedAccessKeyName=worker;SharedAccessKey=c2VjcmV0", isOK, "key worker"},
		{signature(now.Unix() + 15*24*3600), isOK, "good until 2027-01-30"},
		{signature(now.Unix() + 13*24*3600), isWarning, "locked out"},
		{signature(now.Unix()), isFailure, "2027-01-15T08:00:00Z"},
		{strings.Replace(signature(1), "se=1", "se=never", 1), isUnknown, "no number"},
	} {
		got := judgeConnectionString("c", tt.text, now)
		if got.Result != tt.want {
			t.Errorf("%s: %+v, want %s", tt.text, got, tt.want)
		}
		if strings.Contains(got.text(), "c2VjcmV0") || strings.Contains(got.text(), "sig=") {
			t.Errorf("%q gives the secret away", got.text())
		}
		wantWords(t, []finding{got}, tt.words)
	}
}

func TestAddress(t *testing.T) {
	for _, tt := range []struct {
		connection
		want  string
		plain bool
	}{
		{connection{Namespace: "x.servicebus.windows.net"}, "x.servicebus.windows.net:5671", false},
		{connection{ConnectionString: "Endpoint=sb://x.servicebus.windows.net/;SharedAccessKeyName=k;SharedAccessKey=a=="}, "x.servicebus.windows.net:5671", false},
		{connection{ConnectionString: "endpoint=sb://localhost;UseDevelopmentEmulator=True"}, "localhost:5672", true},
		{connection{ConnectionString: "Endpoint=sb://127.0.0.1:7000;UseDevelopmentEmulator=true;"}, "127.0.0.1:7000", true},
		{connection{ConnectionString: "Endpoint=sb://[::1];UseDevelopmentEmulator=true;"}, "[::1]:5672", true},
	} {
		b := busCheck{connection: tt.connection}
		if host, plain := b.address(); host != tt.want || plain != tt.plain {
			t.Errorf("%+v: %s, plain %v; want %s, plain %v", tt.connection, host, plain, tt.want, tt.plain)
		}
	}
}

func TestJudgeReach(t *testing.T) {
	for _, tt := range []struct {
		err   error
		words string
	}{
		{&net.OpError{Op: "dial", Err: errors.New("connection refused")}, "see the firewall"},
		{context.DeadlineExceeded, "see the firewall"},
		{fmt.Errorf("dial: %w", &net.DNSError{Err: "no such host", Name: "x", IsNotFound: true}), "private DNS zone"},
		{fmt.Errorf("tls: %w", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}), "SSL_CERT_FILE"},
	} {
		got := judgeReach("c", "x:5671", tt.err)
		if got.Result != isFailure {
			t.Errorf("%v: %+v, want a failure", tt.err, got)
		}
		wantWords(t, []finding{got}, tt.words)
	}
}

func TestJudgeLink(t *testing.T) {
	l := link{check: "queue.send", entity: "q", flag: "--queue", role: "Azure Service Bus Data Sender", claim: "Send"}
	for _, tt := range []struct {
		err   error
		words string
	}{
		{&azservicebus.Error{Code: azservicebus.CodeUnauthorizedAccess}, "Azure Service Bus Data Sender on q"},
		{fmt.Errorf("link: %w", &azservicebus.Error{Code: azservicebus.CodeNotFound}), "name another as --queue"},
		{&azservicebus.Error{Code: azservicebus.CodeConnectionLost}, "no answer about q"},
		{context.DeadlineExceeded, "no answer about q"},
		{errors.New("amqp:not-allowed\nthe queue is disabled"), "cannot be used: amqp:not-allowed the queue is disabled"},
	} {
		got := judgeLink(l, tt.err)
		if got.Result != isFailure {
			t.Errorf("%v: %+v, want a failure", tt.err, got)
		}
		wantWords(t, []finding{got}, tt.words)
	}
	if got := judgeLink(l, nil); got.Result != isOK {
		t.Errorf("no error: %+v", got)
	}
}

// TestUnreadSettings is never a failure: the worker does without that right.
func TestUnreadSettings(t *testing.T) {
	for _, tt := range []struct {
		err   error
		words string
	}{
		{nil, "are not shown: it is not there, or may not be seen"},
		{&azcore.ResponseError{StatusCode: 401}, "the right to read the settings of q is missing (HTTP 401)"},
		{&azcore.ResponseError{StatusCode: 403}, "Azure Service Bus Data Owner"},
		{&azcore.ResponseError{StatusCode: 503, ErrorCode: "Busy"}, "HTTP 503 Busy"},
		{context.DeadlineExceeded, "does not answer"},
	} {
		got := unreadSettings("queue.settings", "q", queueSettings, tt.err)
		if got.Result != isUnknown || !strings.Contains(got.Do, "LockDuration") {
			t.Errorf("%v: %+v, want unknown, and what to look at", tt.err, got)
		}
		wantWords(t, []finding{got}, tt.words)
	}
}

func TestJudgeClock(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		ahead, took time.Duration // of this machine; the answer's way
		want        result
		words       string
	}{
		{0, 0, isOK, "as that of ARM"},
		{3 * time.Second, 0, isOK, ""},
		{-3 * time.Second, 0, isOK, ""},
		{5 * time.Second, 0, isWarning, "5s ahead of"},
		{-20 * time.Second, 0, isWarning, "20s behind"},
		{5 * time.Second, 8 * time.Second, isOK, ""}, // who knows when, in those 8 s, the date was written
		{-5 * time.Minute, 0, isFailure, "5m behind"},
		{26 * time.Hour, 2 * time.Second, isFailure, "26h ahead of"},
	} {
		asked := now.Add(tt.ahead)
		date := now.Add(tt.took / 2).Truncate(time.Second)
		got := judgeClock("c", "ARM", moment{asked, asked.Add(tt.took), date})
		if got.Result != tt.want {
			t.Errorf("%v ahead, %v: %+v, want %s", tt.ahead, tt.took, got, tt.want)
		}
		wantWords(t, []finding{got}, tt.words)
	}
}

func TestJudgeRights(t *testing.T) {
	pool := deletion.PoolID{Name: "p"}
	role := func(actions ...string) []deletion.Permission { return []deletion.Permission{{Actions: actions}} }
	all := []string{deletion.ActionDelete, deletion.ActionReadConnections, deletion.ActionReadPools, deletion.ActionFollow}
	for _, tt := range []struct {
		name        string
		permissions []deletion.Permission
		kind        deletion.Kind
		readsPools  bool
		want        result
		words       string
	}{
		{"the role", role(all...), deletion.Present, true, isOK, "p: to read and delete connections"},
		{"no role", nil, deletion.Present, false, isFailure, "privateEndpointConnections/delete, Microsoft.KeyVault/managedHSMs/privateEndpointConnections/read"},
		{"a reader", role("*/read"), deletion.Present, true, isFailure, "lacks, on p: Microsoft.KeyVault/managedHSMs/privateEndpointConnections/delete. Do: assign"},
		{"without operations", role(all[:3]...), deletion.Present, true, isWarning, "managedHsmOperationResults/read"},
		{"without pools, which nothing needs", role(all[0], all[1], all[3]), deletion.Present, false, isWarning, "managedHSMs/read"},
		{"without pools, which are searched", role(all[0], all[1], all[3]), deletion.Present, true, isFailure, "managedHSMs/read"},
		{"not told", nil, deletion.Denied, true, isUnknown, "Microsoft.Authorization/permissions/read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := judgeRights(pool, tt.permissions, deletion.Outcome{Kind: tt.kind}, tt.readsPools)
			if got.Result != tt.want {
				t.Errorf("%+v, want %s", got, tt.want)
			}
			wantWords(t, []finding{got}, tt.words)
		})
	}
}

func TestJudgeARM(t *testing.T) {
	pool, scope := deletion.PoolID{Name: "p"}, deletion.Scope{SubscriptionID: "s"}
	answer := func(kind deletion.Kind, status int) deletion.Outcome {
		return deletion.Outcome{Kind: kind, HTTPStatus: status, Code: "Code", Message: "words.", Pool: &deletion.Pool{PublicAccess: "Disabled"}}
	}
	denied, gone, late := answer(deletion.Denied, 403), answer(deletion.Absent, 404), answer(deletion.Unavailable, 0)
	for _, tt := range []struct {
		name  string
		got   finding
		want  result
		words string
	}{
		{"greeting", judgeGreeting("c", answer(deletion.Present, 200)), isOK, ""},
		{"greeting, without any role", judgeGreeting("c", denied), isOK, ""},
		{"greeting, token refused", judgeGreeting("c", answer(deletion.Denied, 401)), isFailure, "--arm-audience"},
		{"greeting, no answer", judgeGreeting("c", late), isFailure, "does not answer: Code: words"},
		{"greeting, an outage", judgeGreeting("c", answer(deletion.Unavailable, 503)), isWarning, "HTTP 503"},
		{"greeting, throttled", judgeGreeting("c", answer(deletion.Throttled, 429)), isWarning, "HTTP 429"},
		{"pool", judgePool(pool, answer(deletion.Present, 200), true), isOK, "public access disabled"},
		{"pool, not there", judgePool(pool, gone, true), isFailure, "not there: HTTP 404 Code: words"},
		{"pool, denied and needed", judgePool(pool, denied, true), isFailure, "--protect-last-approved"},
		{"pool, denied", judgePool(pool, denied, false), isWarning, "does without"},
		{"pool, no answer", judgePool(pool, late, true), isUnknown, "was not read"},
		{"pool, refused", judgePool(pool, answer(deletion.Rejected, 400), true), isFailure, "--api-version"},
		{"connections", judgeConnections(pool, deletion.Outcome{Kind: deletion.Present, Listed: []deletion.Connection{{Status: "Rejected"}, {Status: "Approved"}, {Status: "Rejected"}}}), isOK, "1 Approved, 2 Rejected"},
		{"no connections", judgeConnections(pool, answer(deletion.Present, 200)), isOK, "no connections"},
		{"connections, denied", judgeConnections(pool, denied), isFailure, "deploy/role.json"},
		{"connections, throttled", judgeConnections(pool, answer(deletion.Throttled, 429)), isUnknown, "try again"},
		{"search", judgeSearch(scope, answer(deletion.Present, 200)), isOK, "/subscriptions/s"},
		{"search, nothing there", judgeSearch(scope, answer(deletion.Present, 404)), isFailure, "mend --search-scope"},
		{"search, denied", judgeSearch(scope, denied), isFailure, "assign the role"},
		{"search, no answer", judgeSearch(scope, late), isUnknown, ""},
		{"scope", judgeAllowed(deletion.PoolID{SubscriptionID: "t", Name: "p"}, []deletion.Scope{scope}), isWarning, "outOfScope"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.got.Result != tt.want {
				t.Errorf("%+v, want %s", tt.got, tt.want)
			}
			wantWords(t, []finding{tt.got}, tt.words)
		})
	}
	for _, allowed := range [][]deletion.Scope{nil, {scope}} {
		if got := judgeAllowed(deletion.PoolID{SubscriptionID: "s", Name: "p"}, allowed); got.Check != "" {
			t.Errorf("allowed by %v: %+v", allowed, got)
		}
	}
}

func TestCheckOutput(t *testing.T) {
	findings := []finding{fine("a", "good"), failure("b.c", "two\nlines\x1b[31m", "mend it"), unclear("d", "dark", "")}
	if got, want := findings[1].text(), "two lines?[31m. Do: mend it"; got != want {
		t.Errorf("text is %q, want %q", got, want)
	}
	if got, want := counts(findings), "1 ok, 0 warnings, 1 failure, 1 unknown."; got != want {
		t.Errorf("counts are %q, want %q", got, want)
	}
	if got, want := coloured("ok  a\nfailure  b\nokay\n"), "\x1b[32mok\x1b[0m  a\n\x1b[31mfailure\x1b[0m  b\nokay\n"; got != want {
		t.Errorf("in colour %q, want %q", got, want)
	}
	if err := verdict(findings); err == nil || err.Error() != "1 check failed" {
		t.Errorf("verdict is %v", err)
	}
	if err := verdict(findings[2:]); err != nil {
		t.Errorf("verdict on what is unknown is %v, want none", err)
	}
}

// TestCheckLines has a terminal of 80 columns, one that is too narrow, and none.
func TestCheckLines(t *testing.T) {
	findings := []finding{fine("queue.status", "Active"), failure("queue.duplicateDetection", "off: a step that is repeated after a crash leaves a second request", "make the queue anew")}
	const whole = `ok       queue.status              Active
failure  queue.duplicateDetection  off: a step that is repeated after a crash leaves a second request. Do: make the queue anew
1 ok, 0 warnings, 1 failure, 0 unknown.
`
	for width, want := range map[int]string{0: whole, 40: whole, 80: `ok       queue.status              Active
failure  queue.duplicateDetection  off: a step that is repeated after a crash
                                   leaves a second request. Do: make the queue
                                   anew
1 ok, 0 warnings, 1 failure, 0 unknown.
`} {
		var out strings.Builder
		printFindings(&out, findings, width)
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("width %d (-want +got):\n%s", width, diff)
		}
	}
}
