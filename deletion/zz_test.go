package deletion
import ("testing";"fmt")
func TestZZ(t *testing.T){
 for _, s := range []string{
 `{"dryRun":"yes","requestId":"R1","connectionId":"/x","ticket":{"id":"7"}}`,
 `{"requestId":"R1","ticket":{"id":"7"},"dryRun":"yes","connectionId":"/x"}`,
 `{"nope":1,"requestId":"R1"}`, `{"ticket":{"id":7,"system":"s"},"requestId":"R1"}`,
 `{"requestId":"R1"} x`, `{"requestId":"R1","requestId":"R2"}`, `null`, ``, `[]`, "\xef\xbb\xbf{}", "{\"requestId\":\"\xff\"}", `{"requestId":"R1",}`, `{"dryRun":null}`, `{"status":[null]}`, `{"status":"Approved"}`, `{"notBefore":"tomorrow"}`, `{"notBefore":5}`,`{"ticket":{"x":1}}`, `{"":1}`, `{"a/b":1}`, `{"a~1b":1}`, `{"connectionId":1e999}`, `{"connectionId":"\u0000"}`,`{"status":["Approved",5]}`, `{"requestId":"\ud800"}`,
 }{ r, err := DecodeRequest([]byte(s)); fmt.Printf("%s\n   => %+v\n   => %v\n", s, r, err)
 if r.Ticket!=nil {fmt.Println("    ticket", *r.Ticket)} }
}
