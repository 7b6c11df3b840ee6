// A link may carry the token behind a #, which a browser does not send: it is put into the form, and out of sight.
const form = document.querySelector('form');
document.getElementById('wrong').hidden = !location.search.includes('wrong');
const token = new URLSearchParams(location.hash.slice(1)).get('token');
if (token) {
  history.replaceState(null, '', '/');
  form.elements.token.value = token;
  form.submit();
}
