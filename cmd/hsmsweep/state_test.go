package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// TestStateSurvivesKill kills the emulator in the middle of sends, again and again. What was acknowledged is there afterwards:
// sent, and gone if it was completed.
func TestStateSurvivesKill(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	stateDir := "--state-dir=" + filepath.Join(folder, "state")
	sent := map[string]bool{}
	for life := range 3 {
		p, client := emulated(t, folder, stateDir)
		for _, id := range sendUntilKilled(t, client, p, life) {
			sent[id] = true
		}
	}
	if len(sent) < 50 {
		t.Fatalf("only %d sends were acknowledged", len(sent))
	}

	p, client := emulated(t, folder, stateDir)
	completed := receiveAll(t, client, sent)
	p.kill()
	for id := range sent {
		if !slices.Contains(completed, id) {
			t.Errorf("%s was acknowledged and is lost", id)
		}
	}

	_, client = emulated(t, folder, stateDir)
	receiver, err := client.NewReceiverForQueue(defaultQueue, nil)
	if err != nil {
		t.Fatal(err)
	}
	left, err := receiver.PeekMessages(t.Context(), 10, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range left {
		if slices.Contains(completed, m.MessageID) {
			t.Errorf("%s was completed and is back", m.MessageID)
		}
	}
}

// emulated starts the emulator over the state and a client to it.
func emulated(t *testing.T, folder, stateDir string) (*process, *azservicebus.Client) {
	t.Helper()
	p, env, err := startEmulator(folder, stateDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	at := slices.IndexFunc(env, func(v string) bool { return strings.HasPrefix(v, "HSMSWEEP_CONNECTION_STRING=") })
	_, connectionString, _ := strings.Cut(env[at], "=")
	client, err := azservicebus.NewClientFromConnectionString(connectionString, &azservicebus.ClientOptions{RetryOptions: azservicebus.RetryOptions{MaxRetries: -1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close(context.Background()) }) // its peer may be gone
	return p, client
}

// sendUntilKilled sends from several goroutines, kills the emulator under them, and returns what was acknowledged.
func sendUntilKilled(t *testing.T, client *azservicebus.Client, p *process, life int) []string {
	t.Helper()
	sender, err := client.NewSender(defaultQueue, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var mu sync.Mutex
	var acknowledged []string
	var senders sync.WaitGroup
	for g := range 8 {
		senders.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", life, g, i)
				if sender.SendMessage(ctx, &azservicebus.Message{MessageID: &id, Body: []byte(id)}, nil) != nil {
					return
				}
				mu.Lock()
				acknowledged = append(acknowledged, id)
				enough := len(acknowledged) == 100*(life+1)
				mu.Unlock()
				if enough {
					p.kill()
					cancel()
				}
			}
		})
	}
	senders.Wait()
	return acknowledged
}

// receiveAll receives and completes messages until all that are wanted have come, which others may come before: what was sent and
// not acknowledged. It returns the ids of those whose completion was acknowledged.
func receiveAll(t *testing.T, client *azservicebus.Client, wanted map[string]bool) []string {
	t.Helper()
	receiver, err := client.NewReceiverForQueue(defaultQueue, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var completed []string
	for missing := len(wanted); missing > 0; {
		messages, err := receiver.ReceiveMessages(ctx, 100, &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: time.Millisecond})
		if err != nil {
			t.Errorf("after %d messages, with %d still to come: %v", len(completed), missing, err)
			return completed
		}
		for _, m := range messages {
			if err := receiver.CompleteMessage(ctx, m, nil); err != nil {
				t.Fatal(err)
			}
			completed = append(completed, m.MessageID)
			if wanted[m.MessageID] {
				missing--
			}
		}
	}
	return completed
}

// TestStateIsForeign names the file that it will not touch.
func TestStateIsForeign(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file := filepath.Join(folder, "servicebus.db")
	if err := os.WriteFile(file, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launch(t, nil, "emulator", "--amqp-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0", "--arm-addr=127.0.0.1:0", "--identity-addr=127.0.0.1:0", "--state-dir="+folder)
	p.wantExit(t, exitFailure, patience)
	if text := p.err.text(); !strings.Contains(text, file) {
		t.Errorf("stderr has %q, want the name of the file", text)
	}
}
