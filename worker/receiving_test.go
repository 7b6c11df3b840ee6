package worker_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hsmsweep/internal/emulator/servicebus/broker"
)

// TestReceivingAgain has the receiver lose what it hears by, in every way that is known from the field, after idle hours. A
// request that comes then is deleted within minutes, by the same process, without help.
func TestReceivingAgain(t *testing.T) {
	for _, tt := range []struct {
		name   string
		befall func(*system)
		repair func(*system)
		unfit  string        // what readiness says meanwhile; empty: it need not notice
		within time.Duration // from the repair on
	}{
		{name: "nothing but idle hours", within: time.Second},
		{name: "the link is detached", befall: func(s *system) { s.update(s.queueSettings()) }, within: 5 * time.Second},
		{name: "the connection is cut", befall: func(s *system) { s.ServiceBus.CloseConnections() }, within: 5 * time.Second},
		{name: "the service has forgotten the receiver", befall: (*system).deafen, unfit: "although the queue has message", within: 5 * time.Minute},
		{name: "the queue is disabled for an hour", unfit: "not receiving",
			befall: func(s *system) { s.setStatus(broker.ReceiveDisabled) }, repair: func(s *system) { s.setStatus(broker.Enabled) }, within: time.Minute},
		{name: "the queue is deleted, and made again", unfit: "not receiving", within: time.Minute,
			befall: func(s *system) { s.must(s.Broker.Delete("connection-deletes")) },
			repair: func(s *system) { s.must(s.Broker.CreateQueue(broker.DefaultConfig().Queues[0])) }},
		{name: "nobody can connect for an hour", unfit: "not receiving", within: time.Minute,
			befall: func(s *system) { s.unreachable.Store(true); s.ServiceBus.CloseConnections() }, repair: func(s *system) { s.unreachable.Store(false) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
				r := s.work()
				<-time.After(6 * time.Hour)
				if err := r.worker.Ready(); err != nil {
					t.Errorf("after idle hours: %v, want ready", err)
				}
				if tt.befall != nil {
					tt.befall(s)
				}
				if tt.repair != nil {
					<-time.After(time.Hour)
					if err := r.worker.Ready(); err == nil || !strings.Contains(err.Error(), tt.unfit) {
						t.Errorf("meanwhile: %v, want not ready: %s", err, tt.unfit)
					}
					tt.repair(s)
				}
				repaired := time.Now()
				s.withOwnClient(func() { s.submit("m1", request("pec")) })
				unfit := ""
				done := make(chan struct{})
				go func() {
					defer close(done)
					for range 400 {
						if err := r.worker.Ready(); err != nil {
							unfit += err.Error() + "\n"
						}
						<-time.After(time.Second)
					}
				}()
				e := s.events(1)[0]
				if took := time.Since(repaired); took > tt.within || e.Data.Outcome != "deleted" {
					t.Errorf("ended as %s after %s, want deleted within %s", e.Data.Outcome, took, tt.within)
				}
				<-done
				if tt.repair == nil && !strings.Contains(unfit, tt.unfit) {
					t.Errorf("readiness never said %q, but %q", tt.unfit, unfit)
				}
				if err := r.worker.Ready(); err != nil {
					t.Errorf("in the end: %v, want ready", err)
				}
				r.stop()
				synctest.Wait()
			})
		})
	}
}

func (s *system) deafen() {
	e, err := s.Broker.Entity("connection-deletes")
	s.must(err)
	e.Deafen()
}

func (s *system) queueSettings() broker.QueueConfig {
	e, err := s.Broker.Entity("connection-deletes")
	s.must(err)
	return e.Describe().Config
}

func (s *system) setStatus(status broker.Status) {
	c := s.queueSettings()
	c.Status = status
	s.update(c)
}

func (s *system) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// withOwnClient does something with a client of its own: the one of the system may have been cut off with the others.
func (s *system) withOwnClient(do func()) {
	before := s.client
	s.client = s.dial(s.amqp.Dial)
	do()
	s.close(s.client)
	s.client = before
}
