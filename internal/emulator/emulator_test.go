package emulator_test

import (
	"crypto/tls"
	"net/http"
	"slices"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
	"github.com/go-json-experiment/json"

	"hsmsweep/internal/emulator"
	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/internal/emulator/servicebus/server"
)

// TestOneConnectionString administers and uses a queue through one port: AMQP in plain text, and https and http beside it.
func TestOneConnectionString(t *testing.T) {
	azure, err := emulator.New(emulator.Options{Entities: broker.DefaultConfig()})
	if err != nil {
		t.Fatal(err)
	}
	listeners, err := emulator.Loopback()
	if err != nil {
		t.Fatal(err)
	}
	azure.Serve(listeners[0], listeners[1], listeners[2])
	t.Cleanup(func() {
		if err := azure.Close(); err != nil {
			t.Error(err)
		}
	})
	connectionString := emulator.ConnectionString(listeners[0].Addr().String())

	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: azure.Authority.Pool()}}
	defer transport.CloseIdleConnections()
	administration, err := admin.NewClientFromConnectionString(connectionString, &admin.ClientOptions{
		ClientOptions: azcore.ClientOptions{Transport: &http.Client{Transport: transport}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := administration.CreateQueue(t.Context(), "made-here", nil); err != nil {
		t.Fatal(err)
	}
	client, err := azservicebus.NewClientFromConnectionString(connectionString, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(t.Context())
	sender, err := client.NewSender("made-here", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := sender.SendMessage(t.Context(), &azservicebus.Message{Body: []byte("x")}, nil); err != nil {
		t.Fatal(err)
	}
	counts, err := administration.GetQueueRuntimeProperties(t.Context(), "made-here", nil)
	if err != nil {
		t.Fatal(err)
	}
	if counts.ActiveMessageCount != 1 {
		t.Errorf("%d active messages, want 1", counts.ActiveMessageCount)
	}

	resp, err := http.Get("http://" + listeners[0].Addr().String() + emulator.OperationsPath)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var done []emulator.OperationCount
	if err := json.UnmarshalRead(resp.Body, &done); err != nil {
		t.Fatal(err)
	}
	if sent := (emulator.OperationCount{Operation: server.Operation{Name: "send", Entity: "made-here"}, Count: 1}); !slices.Contains(done, sent) {
		t.Errorf("the operations %v lack %v", done, sent)
	}
}
