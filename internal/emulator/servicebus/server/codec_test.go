package server_test

import (
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/internal/emulator/servicebus/server"
)

// TestMessagesSurviveARestart compares what the SDK sees of messages in every state before and after.
func TestMessagesSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "state")
		var before []*azservicebus.ReceivedMessage
		for _, restarted := range []bool{false, true} {
			b, err := broker.Open(file, server.Codec{}, testConfig())
			if err != nil {
				t.Fatal(err)
			}
			e := &emulator{Server: server.New(server.Options{Broker: b}), broker: b}
			client := e.newClient(t)
			if !restarted {
				fill(t, client)
			}
			var seen []*azservicebus.ReceivedMessage
			for _, options := range []*azservicebus.ReceiverOptions{nil, {SubQueue: azservicebus.SubQueueDeadLetter}} {
				found, err := newReceiver(t, client, "queue", options).PeekMessages(t.Context(), 10, nil)
				if err != nil {
					t.Fatal(err)
				}
				seen = append(seen, found...)
			}
			if restarted {
				if diff := cmp.Diff(before, seen, cmpopts.IgnoreUnexported(azservicebus.ReceivedMessage{}, azservicebus.AMQPAnnotatedMessage{})); diff != "" {
					t.Errorf("messages (-before +after):\n%s", diff)
				}
			}
			if before = seen; len(before) != 4 {
				t.Errorf("%d messages are there, want 4", len(before))
			}
			if err := client.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			e.conns.Wait()
			b.Close()
		}
	})
}

// fill puts a message in every state on the queue.
func fill(t *testing.T, client *azservicebus.Client) {
	t.Helper()
	message := func(id string) *azservicebus.Message {
		return &azservicebus.Message{
			MessageID: &id, Body: []byte("body of " + id), Subject: new("subject"), ContentType: new("text/plain"), CorrelationID: new("c"),
			PartitionKey: new("key"), TimeToLive: new(time.Hour),
			ApplicationProperties: map[string]any{
				"text": "x", "int": int64(1) << 40, "small": int32(-1), "real": 0.5, "yes": true, "when": time.Now().UTC(), "bytes": []byte{0, 1}, "nothing": nil,
			},
		}
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	sender, receiver := newSender(t, client, "queue"), newReceiver(t, client, "queue", nil)
	_, err := sender.ScheduleMessages(ctx, []*azservicebus.Message{message("scheduled")}, time.Now().Add(time.Hour), nil)
	check(err)
	for _, id := range []string{"dead", "deferred", "active"} {
		check(sender.SendMessage(ctx, message(id), nil))
	}
	properties := map[string]any{"why": "a test", "n": int32(7), "at": time.Now().UTC()}
	for range 3 {
		ms, err := receiver.ReceiveMessages(ctx, 1, nil)
		check(err)
		switch m := ms[0]; m.MessageID {
		case "dead":
			check(receiver.DeadLetterMessage(ctx, m, &azservicebus.DeadLetterOptions{
				Reason: new("Broken"), ErrorDescription: new("It is broken."), PropertiesToModify: properties,
			}))
		case "deferred":
			check(receiver.DeferMessage(ctx, m, &azservicebus.DeferMessageOptions{PropertiesToModify: properties}))
		default:
			check(receiver.AbandonMessage(ctx, m, &azservicebus.AbandonMessageOptions{PropertiesToModify: properties}))
		}
	}
}
