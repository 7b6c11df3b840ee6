package worker_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestReadyWithoutToken starts while the identity endpoint fails: not ready until it does not, and no request needs to come for that.
func TestReadyWithoutToken(t *testing.T) {
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		s.Identity.FailNext(4, http.StatusInternalServerError)
		r := s.work()
		<-time.After(30 * time.Second)
		if err := r.worker.Ready(); err == nil || !strings.Contains(err.Error(), "token") {
			t.Errorf("without a token: %v, want why it is not ready", err)
		}
		<-time.After(5 * time.Minute)
		if err := r.worker.Ready(); err != nil {
			t.Errorf("once there are tokens: %v, want ready", err)
		}
		r.stop()
	})
}

// TestReadyAsksSeldom has an idle worker: it looks towards ARM at the start and now and then, not with each probe.
func TestReadyAsksSeldom(t *testing.T) {
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		r := s.work()
		for range 3600 {
			<-time.After(time.Second)
			if err := r.worker.Ready(); err != nil {
				t.Fatalf("idle: %v, want ready", err)
			}
		}
		if n := len(s.ARM.Exchanges()); n != 0 {
			t.Errorf("ARM was asked %d times, want never", n)
		}
		r.stop()
	})
}

// TestReadyWithoutAnswers has ARM's host break every connection: not ready after a few, ready with the first answer.
func TestReadyWithoutAnswers(t *testing.T) {
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		broken := true
		r := s.work(steadily, func(o *options) {
			o.overHTTP = func(rt http.RoundTripper) http.RoundTripper {
				return roundTrip(func(req *http.Request) (*http.Response, error) {
					if broken {
						return nil, errors.New("connection reset by peer")
					}
					return rt.RoundTrip(req)
				})
			}
		})
		s.submit("m1", request("pec"))
		<-time.After(20 * time.Second)
		synctest.Wait()
		if err := r.worker.Ready(); err == nil || !strings.Contains(err.Error(), "without an answer") {
			t.Errorf("without answers: %v, want why it is not ready", err)
		}
		broken = false
		s.events(1)
		if err := r.worker.Ready(); err != nil {
			t.Errorf("after an answer: %v, want ready", err)
		}
		r.stop()
	})
}

// TestLiveInOutage takes Service Bus away for hours, with a worker that idles: it lives, since a restart would help nobody.
func TestLiveInOutage(t *testing.T) {
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		r := s.work()
		<-time.After(3 * time.Hour)
		if err := r.worker.Live(); err != nil {
			t.Errorf("idle for hours: %v, want alive", err)
		}
		s.unreachable.Store(true)
		s.ServiceBus.CloseConnections()
		for range 360 {
			<-time.After(time.Minute / 2)
			if err := r.worker.Live(); err != nil {
				t.Fatalf("in an outage: %v, want alive", err)
			}
		}
		if r.worker.Ready() == nil {
			t.Error("in an outage: ready, want not")
		}
		s.unreachable.Store(false)
		s.withOwnClient(func() {
			s.submit("m1", request("pec"))
			s.events(1)
		})
		if err := r.worker.Live(); err != nil {
			t.Errorf("after it: %v, want alive", err)
		}
		r.stop()
	})
}
