package worker_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hsmsweep/internal/emulator/fault"
	"hsmsweep/internal/emulator/servicebus/broker"
)

var allFaults = flag.Bool("faults.all", false, "TestEveryFault with requests of all kinds")

// step is an operation in the order in which one request brings them about: the n-th of its kind.
type step struct {
	fault.Operation
	n int
}

func (s step) String() string {
	target, _, _ := strings.Cut(s.Target, "?")
	return fmt.Sprintf("%s %s %s #%d", s.Service, s.Name, target[strings.LastIndex(target, "/")+1:], s.n)
}

// A counter numbers operations.
type counter struct {
	mu    sync.Mutex
	seen  map[fault.Operation]int
	steps []step
}

func (c *counter) next(op fault.Operation) step {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[fault.Operation]int{}
	}
	op.Target, _, _ = strings.Cut(op.Target, "kv-operation=") // what follows has a time in it
	c.seen[op]++
	s := step{op, c.seen[op]}
	c.steps = append(c.steps, s)
	return s
}

// TestEveryFault has one request of each kind, and each single thing that it brings about go wrong in each way: every operation of
// Service Bus, every exchange with ARM, every token request is refused, or cut off before or after it was done, or done
// and never answered, or loses all locks; and the process dies with every single write, before or after it arrives.
//
// It takes a minute; without -faults.all it is done with four kinds of request, with -short with one.
func TestEveryFault(t *testing.T) {
	chosen := []string{"location", "at-once", "locked", "swept"}
	if testing.Short() {
		chosen = chosen[:1]
	}
	runs := 0
	for _, kind := range kinds {
		if !*allFaults && !slices.Contains(chosen, kind.name) {
			continue
		}
		t.Run(kind.name, func(t *testing.T) {
			p := planned(kind, "pec")
			var steps counter
			writes := 0
			run(t, p, func(_ *system, _ *oracle, op fault.Operation) fault.Fault { steps.next(op); return fault.Fault{} }, crash{}, &writes)
			runs++
			for _, wanted := range steps.steps {
				for _, k := range append(slices.Clone(fault.Kinds), "locks lost") {
					if k == fault.Silent && (wanted.Name == "attach" || wanted.Name == "put-token") {
						continue // the SDK waits for these with a lock held, which stops virtual time
					}
					var seen counter
					t.Run(fmt.Sprint(wanted, " ", k), func(t *testing.T) {
						run(t, p, func(s *system, o *oracle, op fault.Operation) fault.Fault {
							if seen.next(op) != wanted {
								return fault.Fault{}
							}
							o.disturb(p.inHand())
							if k == "locks lost" {
								s.Broker.ExpireLocks()
								return fault.Fault{}
							}
							return fault.Fault{Kind: k}
						}, crash{}, nil)
					})
					runs++
				}
			}
			for n := 1; n <= writes; n++ {
				for _, after := range []bool{false, true} {
					t.Run(fmt.Sprintf("dies with write %d, after it %v", n, after), func(t *testing.T) {
						run(t, p, func(*system, *oracle, fault.Operation) fault.Fault { return fault.Fault{} }, crash{n, after}, nil)
					})
					runs++
				}
			}
		})
	}
	t.Logf("%d runs", runs)
}

// run takes one request to its end with something going wrong, and has the oracle judge. writes gets the number of writes
// of the replica.
func run(t *testing.T, p plan, goesWrong func(*system, *oracle, fault.Operation) fault.Fault, dies crash, writes *int) {
	t.Helper()
	inVirtualTimeWith(t, broker.DefaultConfig(), seedOf([]plan{p}), func(t *testing.T, s *system) {
		o := newOracle(s, []plan{p})
		s.submit(p.name, p.text())
		s.inject(func(op fault.Operation) fault.Fault {
			o.sees(op)
			return goesWrong(s, o, op)
		})
		first := s.work(func(options *options) { options.crash = dies })
		second := first
		if dies.n > 0 {
			select {
			case <-first.crashed:
				o.disturb(p.inHand())
			case <-time.After(15 * time.Minute): // there were fewer writes this time
			}
			second = s.work()
		}
		if !s.rest(2 * time.Hour) {
			t.Errorf("after two hours the queue has %+v", s.counts())
		}
		if writes != nil {
			*writes = first.written()
		}
		s.inject(nil)
		second.stop()
		synctest.Wait()
		for _, problem := range o.judge() {
			t.Error(problem)
		}
	})
}
