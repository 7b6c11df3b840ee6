package worker_test

import (
	"encoding/json"
	"os"
	"testing"

	"hsmsweep/internal/emulator/fault"
)

// leastRights are those that deploy/ gives: the custom role at ARM; Data Receiver and Data Sender on the queue, and Data Sender on the topic.
// The tests themselves also read events, as every subscriber may. All tests in virtual time run with them, and everything else is
// refused.
func leastRights(t *testing.T) fault.Rights {
	t.Helper()
	text, err := os.ReadFile("../deploy/role.json")
	if err != nil {
		t.Fatal(err)
	}
	var role struct{ Actions []string }
	if err := json.Unmarshal(text, &role); err != nil || len(role.Actions) != 4 {
		t.Fatalf("deploy/role.json has the actions %v (%v), want four", role.Actions, err)
	}
	return fault.Rights{Actions: role.Actions, Send: []string{"connection-deletes", "connection-events"},
		Receive: []string{"connection-deletes", "connection-events/subscriptions/all"}}
}
