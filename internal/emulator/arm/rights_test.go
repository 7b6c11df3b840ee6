package arm_test

import (
	"strings"
	"testing"

	"hsmsweep/internal/emulator/arm"
)

// TestDenied has a pool on which two actions are denied: its permissions tell so, and the requests are refused.
func TestDenied(t *testing.T) {
	const (
		listed    = poolID + "/providers/Microsoft.Authorization/permissions?api-version=2022-04-01"
		readPool  = "microsoft.keyvault/managedhsms/read" // case does not count
		deletes   = "Microsoft.KeyVault/managedHSMs/privateEndpointConnections/delete"
		forbidden = "AuthorizationFailed"
	)
	s := arm.New(arm.Options{})
	mustAdd(t, s, arm.Pool{ID: poolID, Denied: []string{readPool, deletes}, Connections: []arm.Connection{{Name: "c1"}}})
	got := expect(t, s, "GET", listed, answer{Status: 200})
	if want := `"actions":["*"],"notActions":["` + readPool + `","` + deletes + `"]`; !strings.Contains(got.Body.String(), want) {
		t.Errorf("permissions are %s, want %s", got.Body, want)
	}
	expect(t, s, "GET", poolID+version, answer{Status: 403, Code: forbidden})
	expect(t, s, "GET", c1+version, answer{Status: 200, State: "Succeeded"})
	expect(t, s, "GET", poolID+"/privateEndpointConnections"+version, answer{Status: 200})
	expect(t, s, "DELETE", c1+version, answer{Status: 403, Code: forbidden})
	if !s.Exists(c1) {
		t.Error("a refused DELETE deleted the connection")
	}
	pools := expect(t, s, "GET", groupID+"/providers/Microsoft.KeyVault/managedHSMs"+version, answer{Status: 200})
	if strings.Contains(pools.Body.String(), "Pool-1") {
		t.Errorf("the group's pools are %s, want none that may not be read", pools.Body)
	}
	expect(t, s, "GET", strings.Replace(listed, "2022-04-01", "2021-10-01", 1), answer{Status: 400, Code: "InvalidApiVersionParameter"})
}

// TestPermissions are everything where nothing is denied.
func TestPermissions(t *testing.T) {
	s := newSimulator(t, arm.Options{}, arm.Script{})
	got := expect(t, s, "GET", poolID+"/providers/Microsoft.Authorization/permissions?api-version=2022-04-01", answer{Status: 200})
	if want := `{"value":[{"actions":["*"],"notActions":[],"dataActions":[],"notDataActions":[]}]}`; got.Body.String() != want {
		t.Errorf("permissions are %s, want %s", got.Body, want)
	}
}
