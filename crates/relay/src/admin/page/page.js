'use strict';
for (const name of ['hello', 'sample']) {
  (window.stream ??= new EventSource('/admin/events')).addEventListener(name, (event) => {
    document.getElementById('summary').textContent = JSON.stringify(JSON.parse(event.data), null, 2);
  });
}
