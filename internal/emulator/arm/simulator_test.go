package arm_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hsmsweep/internal/emulator/arm"
)

func TestRefusals(t *testing.T) {
	s := newSimulator(t, arm.Options{}, arm.Script{})
	const noGroup = "/subscriptions/" + subscription + "/resourceGroups/none/providers/Microsoft.KeyVault/managedHSMs"
	const noSubscription = "/subscriptions/00000000-0000-0000-0000-000000000000/providers/Microsoft.KeyVault/managedHSMs"
	const noPool = groupID + "/providers/Microsoft.KeyVault/managedHSMs/none"
	const connection = "/privateEndpointConnections/c1"
	tests := []struct {
		method, target string
		status         int
		code           string
	}{
		{"DELETE", poolID + "/privateEndpointConnections/none" + version, 204, ""},
		{"DELETE", noPool + connection + version, 404, "ParentResourceNotFound"},
		{"DELETE", noGroup + "/p" + connection + version, 404, "ResourceGroupNotFound"},
		{"DELETE", strings.Replace(c1, subscription, "00000000-0000-0000-0000-000000000000", 1) + version, 404, "SubscriptionNotFound"},
		{"DELETE", strings.Replace(c1, subscription, "mine", 1) + version, 400, "InvalidSubscriptionId"},
		{"GET", poolID + "/privateEndpointConnections/none" + version, 404, "ResourceNotFound"},
		{"GET", noPool + connection + version, 404, "ParentResourceNotFound"},
		{"GET", noPool + "/privateEndpointConnections" + version, 404, "ParentResourceNotFound"},
		{"GET", noPool + version, 404, "ResourceNotFound"},
		{"GET", noGroup + version, 404, "ResourceGroupNotFound"},
		{"GET", noSubscription + version, 404, "SubscriptionNotFound"},
		{"GET", c1, 400, "MissingApiVersionParameter"},
		{"GET", c1 + "?api-version=2019-09-01", 400, "InvalidApiVersionParameter"},
		{"GET", c1 + version + "&kv-operation=unknown", 404, "NotFound"},
		{"GET", "/subscriptions/" + subscription + "/providers/Microsoft.KeyVault/locations/x/managedHsmOperationResults/y" + version, 404, "NotFound"},
		{"GET", groupID + "/providers/Microsoft.KeyVault/managedHSMs" + version + "&$top=0", 400, "BadRequest"},
		{"GET", groupID + "/providers/Microsoft.KeyVault/managedHSMs" + version + "&$skiptoken=*", 400, "BadRequest"},
		{"GET", poolID + "/privateEndpointConnections/c1%2F..%2Fc2" + version, 404, "ResourceNotFound"},
		{"GET", "/" + version, 404, "InvalidResourceType"},
		{"DELETE", poolID + version, 405, "MethodNotAllowed"},
		{"PUT", c1 + version, 405, "MethodNotAllowed"},
	}
	for _, test := range tests {
		expect(t, s, test.method, test.target, answer{Status: test.status, Code: test.code})
	}
	if !s.Exists(c1) {
		t.Error("a refused request deleted the connection")
	}
}

func TestAuthorization(t *testing.T) {
	s := newSimulator(t, arm.Options{Authorize: func(token string) error {
		if token != "good" {
			return errors.New("not good")
		}
		return nil
	}}, arm.Script{})
	tests := []struct {
		header, code string
		status       int
	}{
		{"Bearer good", "", 200},
		{"bearer good", "", 200},
		{"", "AuthenticationFailed", 401},
		{"Bearer bad", "InvalidAuthenticationToken", 401},
		{"Bearer ", "InvalidAuthenticationToken", 401},
		{"Basic good", "InvalidAuthenticationToken", 401},
	}
	for _, test := range tests {
		request := httptest.NewRequestWithContext(t.Context(), "GET", c1+version, nil)
		request.Header.Set("Authorization", test.header)
		recorder := httptest.NewRecorder()
		s.ServeHTTP(recorder, request)
		if recorder.Code != test.status || !strings.Contains(recorder.Body.String(), test.code) {
			t.Errorf("Authorization %q: status %d, body %s; want %d %s", test.header, recorder.Code, recorder.Body, test.status, test.code)
		}
		if challenge := recorder.Header().Get("WWW-Authenticate"); (challenge != "") != (test.status == 401) {
			t.Errorf("Authorization %q: WWW-Authenticate %q", test.header, challenge)
		}
	}
}

func TestEveryAnswerHasARMsHeaders(t *testing.T) {
	s := newSimulator(t, arm.Options{}, arm.Script{})
	for _, request := range []struct{ method, target, limit string }{
		{"GET", c1 + version, "x-ms-ratelimit-remaining-subscription-reads"},
		{"GET", "/nowhere", "x-ms-ratelimit-remaining-subscription-reads"},
		{"DELETE", c1 + version, "x-ms-ratelimit-remaining-subscription-deletes"},
		{"DELETE", c1 + version, "x-ms-ratelimit-remaining-subscription-deletes"},
	} {
		_, recorder := do(t, s, request.method, request.target)
		for _, name := range []string{"x-ms-request-id", "x-ms-correlation-request-id", "x-ms-routing-request-id", "Date", request.limit} {
			if recorder.Header().Get(name) == "" {
				t.Errorf("%s %s: no header %s", request.method, request.target, name)
			}
		}
		if got := recorder.Header().Get("Cache-Control"); got != "no-cache" {
			t.Errorf("%s %s: Cache-Control %q, want no-cache", request.method, request.target, got)
		}
	}
}

func TestDefaultDelete(t *testing.T) {
	s := newSimulator(t, arm.Options{}, arm.Script{})
	lower := strings.ToLower(c1)
	recorder := expect(t, s, "DELETE", lower+version, answer{Status: 200, State: "Disconnected"})
	if !strings.Contains(recorder.Body.String(), `"id":"`+c1+`"`) {
		t.Errorf("the body %s has not the id in its own casing %s", recorder.Body, c1)
	}
	expect(t, s, "DELETE", c1+version, answer{Status: 204})
	expect(t, s, "GET", c1+version, answer{Status: 404, Code: "ResourceNotFound"})
	if s.Exists(c1) || s.Deletes(c1) != 2 || s.Deletes(lower) != 2 {
		t.Errorf("Exists %v, Deletes %d; want gone after 2", s.Exists(c1), s.Deletes(c1))
	}
}

func TestDeleteWithBody(t *testing.T) {
	s := newSimulator(t, arm.Options{}, arm.Script{})
	request := httptest.NewRequestWithContext(t.Context(), "DELETE", c1+version, strings.NewReader("{}"))
	request.Header.Set("Authorization", "Bearer token")
	recorder := httptest.NewRecorder()
	s.ServeHTTP(recorder, request)
	if recorder.Code != 400 || !s.Exists(c1) {
		t.Errorf("a DELETE with a body: status %d, exists %v; want 400 and still there", recorder.Code, s.Exists(c1))
	}
}

func TestNamesake(t *testing.T) {
	s := newSimulator(t, arm.Options{}, arm.Script{})
	if err := s.AddConnection(poolID, arm.Connection{Name: "C1"}); err == nil {
		t.Error("a second connection of the same name was added")
	}
	_, before := do(t, s, "GET", c1+version)
	do(t, s, "DELETE", c1+version)
	if err := s.AddConnection(poolID, arm.Connection{Name: "c1", Status: "Disconnected", PrivateEndpointID: endpointID}); err != nil {
		t.Fatalf("after the delete: %v", err)
	}
	after := expect(t, s, "GET", c1+version, answer{Status: 200, State: "Succeeded"})
	if before.Body.String() == after.Body.String() {
		t.Error("the namesake has the etag of its predecessor")
	}
}

func TestAddErrors(t *testing.T) {
	s := newSimulator(t, arm.Options{}, arm.Script{})
	tests := []struct {
		err  error
		want string
	}{
		{s.AddPool(arm.Pool{ID: strings.ToLower(poolID)}), "exists already"},
		{s.AddPool(arm.Pool{ID: c1}), "id"},
		{s.AddConnection(poolID+"x", arm.Connection{Name: "c"}), "add it first"},
		{s.AddConnection(poolID, arm.Connection{Name: ".."}), "name"},
	}
	for i, test := range tests {
		if test.err == nil || !strings.Contains(test.err.Error(), test.want) {
			t.Errorf("%d: error %v, want one with %q", i, test.err, test.want)
		}
	}
}

func TestAutoCreate(t *testing.T) {
	s := newSimulator(t, arm.Options{AutoCreate: true}, arm.Script{})
	other := "/subscriptions/" + subscription + "/resourceGroups/new/providers/Microsoft.KeyVault/managedHSMs/fresh/privateEndpointConnections/any"
	if s.Exists(other) {
		t.Error("asking Exists created a connection")
	}
	expect(t, s, "GET", other+version, answer{Status: 200, State: "Succeeded"})
	expect(t, s, "DELETE", other+version, answer{Status: 200, State: "Disconnected"})
	expect(t, s, "DELETE", other+version, answer{Status: 204})
	expect(t, s, "GET", other+version, answer{Status: 404, Code: "ResourceNotFound"})
	expect(t, s, "DELETE", c2+version, answer{Status: 200, State: "Disconnected"})
	expect(t, s, "DELETE", strings.Replace(other, "fresh", "no", 1)+version, answer{Status: 404, Code: "ParentResourceNotFound"})
}

func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulator(t, arm.Options{Deletes: arm.Rate{Bucket: 2, PerSecond: 0.5}}, arm.Script{})
		throttled := answer{Status: 429, Code: "SubscriptionRequestsThrottled", RetryAfter: "2"}
		absent := c2 + version
		expect(t, s, "DELETE", absent, answer{Status: 204})
		expect(t, s, "DELETE", absent, answer{Status: 204})
		recorder := expect(t, s, "DELETE", c1+version, throttled)
		if left := recorder.Header().Get("x-ms-ratelimit-remaining-subscription-deletes"); left != "0" {
			t.Errorf("%s deletes left, want 0", left)
		}
		expect(t, s, "GET", c1+version, answer{Status: 200, State: "Succeeded"})
		other := strings.Replace(absent, subscription, "0b1f6471-1bf0-4dda-aec3-cb9272f09591", 1)
		expect(t, s, "DELETE", other, answer{Status: 404, Code: "SubscriptionNotFound"})
		<-time.After(time.Second)
		expect(t, s, "DELETE", c1+version, answer{Status: 429, Code: "SubscriptionRequestsThrottled", RetryAfter: "1"})
		<-time.After(time.Second)
		expect(t, s, "DELETE", c1+version, answer{Status: 200, State: "Disconnected"})
		<-time.After(time.Hour)
		for range 2 {
			expect(t, s, "DELETE", absent, answer{Status: 204})
		}
		expect(t, s, "DELETE", absent, throttled)
	})
}

func TestRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulator(t, arm.Options{}, arm.Script{})
		do(t, s, "DELETE", strings.ToUpper(c2)+version)
		do(t, s, "GET", poolID+version)
		want := []arm.Exchange{
			{Time: time.Now(), Method: "DELETE", URL: strings.ToUpper(c2) + version, Status: 204, Connection: strings.ToLower(c2)},
			{Time: time.Now(), Method: "GET", URL: poolID + version, Status: 200},
		}
		if diff := cmp.Diff(want, s.Exchanges(), cmpopts.EquateApproxTime(0)); diff != "" {
			t.Errorf("Exchanges (-want +got):\n%s", diff)
		}
		for i := range 10_000 {
			do(t, s, "DELETE", fmt.Sprintf("%s%s&n=%d", c2, version, i))
		}
		got := s.Exchanges()
		if len(got) != 10_000 || !strings.HasSuffix(got[0].URL, "&n=0") || !strings.HasSuffix(got[9_999].URL, "&n=9999") {
			t.Errorf("%d exchanges from %s to %s, want the last 10,000", len(got), got[0].URL, got[len(got)-1].URL)
		}
		if n := s.Deletes(c2); n != 10_001 {
			t.Errorf("Deletes = %d, want 10,001", n)
		}
		s.ResetRecord()
		if len(s.Exchanges()) != 0 || s.Deletes(c2) != 0 {
			t.Errorf("after the reset: %d exchanges, %d deletes", len(s.Exchanges()), s.Deletes(c2))
		}
	})
}

func TestConcurrentDeletesHappenOnce(t *testing.T) {
	s := newSimulator(t, arm.Options{}, arm.Script{})
	statuses := make(chan int, 50)
	var clients sync.WaitGroup
	for range cap(statuses) {
		clients.Go(func() {
			request := httptest.NewRequest("DELETE", c1+version, http.NoBody)
			request.Header.Set("Authorization", "Bearer token")
			recorder := httptest.NewRecorder()
			s.ServeHTTP(recorder, request)
			statuses <- recorder.Code
		})
	}
	clients.Wait()
	close(statuses)
	got := map[int]int{}
	for status := range statuses {
		got[status]++
	}
	if diff := cmp.Diff(map[int]int{200: 1, 204: 49}, got); diff != "" {
		t.Errorf("statuses of 50 DELETEs at once (-want +got):\n%s", diff)
	}
}
