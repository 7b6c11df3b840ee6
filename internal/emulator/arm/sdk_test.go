package arm_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator/arm"
	"hsmsweep/internal/emulator/identity"
)

func TestSDKReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulator(t, arm.Options{PageSize: 2}, arm.Script{})
		for i := range 5 {
			if err := s.AddConnection(poolID, arm.Connection{Name: fmt.Sprintf("more-%d", i), Status: "Approved"}); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"Pool-2", "Pool-3"} {
			mustAdd(t, s, arm.Pool{ID: groupID + "/providers/Microsoft.KeyVault/managedHSMs/" + name, PublicNetworkAccess: "Disabled"})
		}
		client, end := serve(t, s)
		defer end()
		factory := sdk(t, client, fixedToken("token"))
		connections, pools := factory.NewMHSMPrivateEndpointConnectionsClient(), factory.NewManagedHsmsClient()

		got, err := connections.Get(t.Context(), "GROUP-1", "pool-1", "C1", nil)
		if err != nil {
			t.Fatal(err)
		}
		if got.Etag == nil || *got.Etag == "" {
			t.Error("the connection has no etag")
		}
		got.Etag = nil
		want := armkeyvault.MHSMPrivateEndpointConnection{
			ID:       new(c1),
			Name:     new("c1"),
			Type:     new("Microsoft.KeyVault/managedHSMs/privateEndpointConnections"),
			Location: new("northeurope"),
			SKU:      &armkeyvault.ManagedHsmSKU{Family: new(armkeyvault.ManagedHsmSKUFamilyB), Name: new(armkeyvault.ManagedHsmSKUNameStandardB1)},
			Properties: &armkeyvault.MHSMPrivateEndpointConnectionProperties{
				PrivateEndpoint:   &armkeyvault.MHSMPrivateEndpoint{ID: new(endpointID)},
				ProvisioningState: new(armkeyvault.PrivateEndpointConnectionProvisioningStateSucceeded),
				PrivateLinkServiceConnectionState: &armkeyvault.MHSMPrivateLinkServiceConnectionState{
					Status:          new(armkeyvault.PrivateEndpointServiceConnectionStatusDisconnected),
					ActionsRequired: new(armkeyvault.ActionsRequiredNone),
				},
			},
		}
		if diff := cmp.Diff(want, got.MHSMPrivateEndpointConnection); diff != "" {
			t.Errorf("Get (-want +got):\n%s", diff)
		}

		var names []string
		var pages int
		for pager := connections.NewListByResourcePager("Group-1", "Pool-1", nil); pager.More(); pages++ {
			page, err := pager.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range page.Value {
				names = append(names, *c.Name)
			}
		}
		if want := []string{"c1", "more-0", "more-1", "more-2", "more-3", "more-4"}; !slices.Equal(names, want) || pages != 3 {
			t.Errorf("listed %v in %d pages, want %v in 3", names, pages, want)
		}

		pool, err := pools.Get(t.Context(), "Group-1", "Pool-2", nil)
		if err != nil {
			t.Fatal(err)
		}
		if *pool.Properties.PublicNetworkAccess != armkeyvault.PublicNetworkAccessDisabled || pool.Properties.PrivateEndpointConnections != nil {
			t.Errorf("pool 2: access %v, connections %v; want Disabled and none", *pool.Properties.PublicNetworkAccess, pool.Properties.PrivateEndpointConnections)
		}

		found := map[string]int{}
		for pager := pools.NewListBySubscriptionPager(&armkeyvault.ManagedHsmsClientListBySubscriptionOptions{Top: new(int32(1))}); pager.More(); {
			page, err := pager.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Value) != 1 {
				t.Errorf("a page with $top=1 has %d pools", len(page.Value))
			}
			for _, p := range page.Value {
				found[*p.Name] = len(p.Properties.PrivateEndpointConnections)
			}
		}
		if diff := cmp.Diff(map[string]int{"Pool-1": 6, "Pool-2": 0, "Pool-3": 0}, found); diff != "" {
			t.Errorf("connections by pool in the subscription (-want +got):\n%s", diff)
		}

		page, err := pools.NewListByResourceGroupPager("group-1", nil).NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if item := page.Value[0].Properties.PrivateEndpointConnections[0]; *item.ID != c1 || *item.Properties.PrivateEndpoint.ID != endpointID {
			t.Errorf("first connection of the group: %s of %s, want %s of %s", *item.ID, *item.Properties.PrivateEndpoint.ID, c1, endpointID)
		}

		_, err = connections.Get(t.Context(), "Group-1", "Pool-1", "absent", nil)
		if failed, ok := errors.AsType[*azcore.ResponseError](err); !ok || failed.ErrorCode != "ResourceNotFound" || failed.StatusCode != 404 {
			t.Errorf("Get of a missing connection: %v, want 404 ResourceNotFound", err)
		}
	})
}

func TestSDKDeletes(t *testing.T) {
	tests := []struct {
		name   string
		script arm.Script
		took   time.Duration // of PollUntilDone
		code   string        // of the error
		exists bool
	}{
		{"at once", arm.Script{}, 0, "", false},
		{"location", deletes(arm.Answer{Status: 202, Operation: &arm.Operation{Polls: 2, RetryAfter: "10"}}), 30 * time.Second, "", false},
		{"location for a time", deletes(arm.Answer{Status: 202, Operation: &arm.Operation{Seconds: 25, RetryAfter: "10"}}), 30 * time.Second, "", false},
		{"location with a date", deletes(arm.Answer{Status: 202, Operation: &arm.Operation{Polls: 1, RetryAfter: "date+5s"}}), 10 * time.Second, "", false},
		{"ends in 200", deletes(arm.Answer{Status: 202, Operation: &arm.Operation{End: "200", RetryAfter: "1"}}), time.Second, "", false},
		{"async", deletes(arm.Answer{Status: 202, Operation: &arm.Operation{Header: arm.HeaderAsyncOperation, Polls: 1, RetryAfter: "10"}}), 20 * time.Second, "", false},
		{"operation location", deletes(arm.Answer{Status: 202, Operation: &arm.Operation{Header: arm.HeaderOperationLocation, Polls: 1, RetryAfter: "10"}}), 20 * time.Second, "", false},
		{"async that fails", deletes(arm.Answer{Status: 202, Operation: &arm.Operation{Header: arm.HeaderAsyncOperation, End: "Failed", Code: "Stuck", RetryAfter: "10"}}), 10 * time.Second, "Stuck", true},
		{"poll refused", deletes(arm.Answer{Status: 202, Operation: &arm.Operation{End: "403", RetryAfter: "10"}}), 10 * time.Second, "AuthorizationFailed", true},
		{"poll throttled", deletes(arm.Answer{Status: 202, Operation: &arm.Operation{RetryAfter: "10", PollErrors: []arm.Answer{{Status: 429, RetryAfter: "7"}}}}), 17 * time.Second, "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSimulator(t, arm.Options{}, test.script)
				client, end := serve(t, s)
				defer end()
				connections := sdk(t, client, fixedToken("token")).NewMHSMPrivateEndpointConnectionsClient()
				poller, err := connections.BeginDelete(t.Context(), "Group-1", "Pool-1", "c1", nil)
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				_, err = poller.PollUntilDone(t.Context(), nil)
				if took := time.Since(began); took != test.took {
					t.Errorf("took %v, want %v", took, test.took)
				}
				var code string
				if failed, ok := errors.AsType[*azcore.ResponseError](err); ok {
					code = failed.ErrorCode
				} else if err != nil {
					t.Fatal(err)
				}
				if code != test.code {
					t.Errorf("error code %q, want %q", code, test.code)
				}
				if s.Exists(c1) != test.exists {
					t.Errorf("Exists = %v, want %v", s.Exists(c1), test.exists)
				}
			})
		})
	}
}

func TestSilence(t *testing.T) {
	tests := []struct {
		name   string
		answer arm.Answer
		took   time.Duration
		exists bool
	}{
		{"cut", arm.Answer{Cut: true}, 0, true},
		{"cut but applied", arm.Answer{Cut: true, Applied: true}, 0, false},
		{"hang", arm.Answer{Hang: true}, 30 * time.Second, true},
		{"hang but applied", arm.Answer{Hang: true, Applied: true}, 30 * time.Second, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSimulator(t, arm.Options{}, deletes(test.answer))
				client, end := serve(t, s)
				defer end()
				connections := sdk(t, client, fixedToken("token")).NewMHSMPrivateEndpointConnectionsClient()
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				began := time.Now()
				_, err := connections.BeginDelete(ctx, "Group-1", "Pool-1", "c1", nil)
				if _, answered := errors.AsType[*azcore.ResponseError](err); err == nil || answered {
					t.Errorf("error %v, want a failure without an answer", err)
				}
				if took := time.Since(began); took != test.took {
					t.Errorf("took %v, want %v", took, test.took)
				}
				if s.Exists(c1) != test.exists {
					t.Errorf("Exists = %v, want %v", s.Exists(c1), test.exists)
				}
				if got := s.Exchanges(); len(got) != 1 || got[0].Status != 0 || s.Deletes(c1) != 1 {
					t.Errorf("recorded %+v with %d deletes, want one exchange without status", got, s.Deletes(c1))
				}
			})
		})
	}
}

func TestManagedIdentityOverLoopback(t *testing.T) {
	const audience = "https://management.core.windows.net/"
	tokens := identity.New()
	identityServer := httptest.NewServer(tokens)
	defer identityServer.Close()
	t.Setenv("IDENTITY_ENDPOINT", identityServer.URL)
	t.Setenv("IDENTITY_HEADER", tokens.Header())
	credential, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID(rand.Text())})
	if err != nil {
		t.Fatal(err)
	}
	s := newSimulator(t, arm.Options{Authorize: func(token string) error { return tokens.Verify(token, audience) }}, deletes(arm.Answer{Cut: true}))
	server := httptest.NewUnstartedServer(s)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	options := sdkOptions(server.Client())
	service := options.Cloud.Services["resourceManager"]
	service.Endpoint = server.URL
	options.Cloud.Services["resourceManager"] = service
	connections, err := armkeyvault.NewMHSMPrivateEndpointConnectionsClient(subscription, credential, options)
	if err != nil {
		t.Fatal(err)
	}
	_, err = connections.BeginDelete(t.Context(), "Group-1", "Pool-1", "c1", nil)
	if _, answered := errors.AsType[*azcore.ResponseError](err); err == nil || answered || s.Deletes(c1) != 1 {
		t.Errorf("cut over HTTP/2: error %v after %d deletes, want a failure without an answer after 1", err, s.Deletes(c1))
	}
	var response *http.Response
	ctx := policy.WithCaptureResponse(t.Context(), &response)
	if _, err := connections.BeginDelete(ctx, "Group-1", "Pool-1", "c1", nil); err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != 200 || response.ProtoMajor != 2 || s.Exists(c1) {
		t.Errorf("status %d over HTTP/%d, exists %v; want 200 over HTTP/2 and gone", response.StatusCode, response.ProtoMajor, s.Exists(c1))
	}

	strange, err := armkeyvault.NewMHSMPrivateEndpointConnectionsClient(subscription, fixedToken("forged"), options)
	if err != nil {
		t.Fatal(err)
	}
	_, err = strange.Get(t.Context(), "Group-1", "Pool-1", "c1", nil)
	if failed, ok := errors.AsType[*azcore.ResponseError](err); !ok || failed.StatusCode != 401 || failed.ErrorCode != "InvalidAuthenticationToken" {
		t.Errorf("with a forged token: %v, want 401 InvalidAuthenticationToken", err)
	}
}
