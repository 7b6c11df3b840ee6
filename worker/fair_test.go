package worker_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/uuid"

	"hsmsweep/internal/emulator/arm"
	"hsmsweep/internal/emulator/fault"
	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/worker"
)

// pools makes n pools of k connections each, in a subscription of their own each, all with one script.
func pools(n, k int, script string) (seed string, connections [][]string) {
	var texts []string
	for i := range n {
		id := fmt.Sprintf("/subscriptions/%08d-0000-0000-0000-000000000000/resourceGroups/g/providers/Microsoft.KeyVault/managedHSMs/pool%d", i, i)
		var of []string
		var text []string
		for j := range k {
			of = append(of, fmt.Sprintf("%s/privateEndpointConnections/c%d", id, j))
			text = append(text, fmt.Sprintf(`{"name":"c%d","status":"Disconnected","script":%s}`, j, script))
		}
		connections = append(connections, of)
		texts = append(texts, fmt.Sprintf(`{"id":%q,"connections":[%s]}`, id, strings.Join(text, ",")))
	}
	return `{"pools":[` + strings.Join(texts, ",") + `]}`, connections
}

// TestPace has 2,000 requests for one subscription, of which ARM takes 200 at once and 10 a second, its published limit. The bucket is
// kept empty, and hardly a call is refused.
func TestPace(t *testing.T) {
	n := 2000
	if testing.Short() {
		n = 500
	}
	seed, connections := pools(1, n, "{}")
	limits := arm.Options{Deletes: arm.Rate{Bucket: 200, PerSecond: 10}, Reads: arm.Rate{Bucket: 250, PerSecond: 25}}
	inVirtualTimeLimited(t, broker.DefaultConfig(), limits, seed, func(t *testing.T, s *system) {
		began := time.Now()
		s.submitMany(connections[0])
		r := s.work()
		s.endAs(n, "deleted")
		took := time.Since(began)
		r.stop()
		refused := s.refused(http.StatusTooManyRequests)
		if best := time.Duration(n-200) * time.Second / 10; took > best*105/100+5*time.Second {
			t.Errorf("it took %s; ARM's limit allows %s", took, best)
		}
		if refused > n/100 {
			t.Errorf("%d of %d calls were refused, want 1%% at the most", refused, n)
		}
		t.Logf("%d requests in %s, %d refused", n, took, refused)
	})
}

// TestPaceOfReplicas has three replicas share what ARM takes, each without knowing of the others.
func TestPaceOfReplicas(t *testing.T) {
	const n = 1000
	seed, connections := pools(1, n, "{}")
	limits := arm.Options{Deletes: arm.Rate{Bucket: 200, PerSecond: 10}}
	inVirtualTimeLimited(t, broker.DefaultConfig(), limits, seed, func(t *testing.T, s *system) {
		began := time.Now()
		s.submitMany(connections[0])
		replicas := []*replica{s.work(), s.work(), s.work()}
		s.endAs(n, "deleted")
		took := time.Since(began)
		for _, r := range replicas {
			r.stop()
		}
		refused := s.refused(http.StatusTooManyRequests)
		if best := time.Duration(n-200) * time.Second / 10; took > best*5/2 {
			t.Errorf("it took %s; ARM's limit allows %s", took, best)
		}
		if refused > n/10 {
			t.Errorf("%d of %d calls were refused", refused, n)
		}
		t.Logf("%d requests in %s, %d refused", n, took, refused)
	})
}

// TestThrottledNeighbour has one subscription refused for ten minutes, and 500 requests for it before those of another one.
func TestThrottledNeighbour(t *testing.T) {
	besideRefused(t, http.StatusTooManyRequests, func(*system) {})
}

// TestBusyPool has one pool that is busy and slow to say so, and 500 requests for it before those of another one.
func TestBusyPool(t *testing.T) {
	besideRefused(t, http.StatusConflict, func(s *system) {
		if n := s.refused(http.StatusConflict); n > 50 {
			s.t.Errorf("the busy pool was asked %d times meanwhile", n)
		}
	})
}

// besideRefused has ARM refuse everything about one pool for ten minutes. 20 requests for a pool of another subscription, behind 500
// for this one, must end in seconds; a look is taken then.
func besideRefused(t *testing.T, status int, look func(*system)) {
	t.Helper()
	seed, connections := pools(2, 500, "{}")
	inVirtualTime(t, seed, func(t *testing.T, s *system) {
		began := time.Now()
		s.inject(func(op fault.Operation) fault.Fault {
			if op.Service == fault.ARM && strings.Contains(op.Target, "/pool0/") && time.Since(began) < 10*time.Minute {
				return fault.Fault{Kind: fault.Refused, Status: status, Delay: time.Second}
			}
			return fault.Fault{}
		})
		s.submitMany(connections[0])
		s.submitMany(connections[1][:20])
		r := s.work()
		s.endAs(20, "deleted")
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the neighbours took %s", took)
		}
		look(s)
		s.endAs(500, "deleted")
		r.stop()
	})
}

// submitMany puts requests on the queue.
func (s *system) submitMany(connections []string) {
	s.t.Helper()
	s.sendMany(len(connections), func(i int) *azservicebus.Message {
		return &azservicebus.Message{MessageID: new(uuid.NewString()), Body: []byte(fmt.Sprintf(`{"connectionId":%q}`, connections[i]))}
	})
}

// sendMany sends n messages, as many at a time as fit.
func (s *system) sendMany(n int, message func(int) *azservicebus.Message) {
	s.t.Helper()
	sender, err := s.client.NewSender("connection-deletes", nil)
	s.must(err)
	defer sender.Close(context.Background())
	for sent := 0; sent < n; {
		batch, err := sender.NewMessageBatch(context.Background(), nil)
		s.must(err)
		for ; sent < n; sent++ {
			err := batch.AddMessage(message(sent), nil)
			if errors.Is(err, azservicebus.ErrMessageTooLarge) {
				break
			}
			s.must(err)
		}
		s.must(sender.SendMessageBatch(context.Background(), batch, nil))
	}
}

// endAs waits for n events, all of one outcome.
func (s *system) endAs(n int, outcome worker.Reason) {
	s.t.Helper()
	for _, e := range s.events(n) {
		if e.Data.Outcome != outcome {
			s.t.Errorf("%s ended as %s %+v, want %s", e.Data.ConnectionID, e.Data.Outcome, e.Data.Error, outcome)
		}
	}
}

// refused counts ARM's answers with this status.
func (s *system) refused(status int) int {
	n := 0
	for _, x := range s.ARM.Exchanges() {
		if x.Status == status {
			n++
		}
	}
	return n
}
