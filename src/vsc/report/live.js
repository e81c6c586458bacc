// The page's live part: controls in, pictures, signals or a table row out. What is computed is in decode.js.
function bench(carried) {
  const numbers = unpacked(carried), decode = decoder(carried, numbers), find = (id) => document.getElementById("live-" + id);
  const { examples, gated, kind, shape, each, peak } = carried, [rest, low, high] = ["rest", "low", "high"].map((n) => numbers(carried[n]));
  const draw = carried.prior && drawer(carried, numbers), hints = new Map(carried.used), rows = new Map(), held = rest.slice();
  let a, b, z, first, pending = false; // codes: the start, what it is blended with, now; and the start decoded

  const signed = (v, digits = 2) => {
    const text = v.toFixed(digits), zero = Number(text) === 0;
    return (zero ? text.replace("-", "") : v > 0 ? "+" + text : text).replace("-", "−");
  };
  const measure = (v) => (Math.abs(v) >= 1e4 && Math.abs(v) < 1e9
    ? Math.round(v).toLocaleString("en").replaceAll(",", "\u202f") : String(Number(v.toPrecision(4)))).replace("-", "−");
  const isOn = (j) => z[j] !== rest[j];
  const moved = (x, i) => (x[i] - first[i]) / each[i % each.length]; // as changes are told on this page

  const show = { images, signals, table }[kind]();
  function images() {
    const [C, H, W] = shape, [black, white] = carried.limits, area = H * W, colours = carried.colours.map(parsed);
    const grey = (v) => (255 * (v - black)) / (white - black || 1);
    const plain = (x) => (p, c) => grey(x[(C === 3 ? c * area : 0) + p]);
    const change = (x, y) => (p, c) => {
      let sum = 0;
      for (let k = 0; k < C; k++) sum += x[k * area + p] - y[k * area + p];
      const at = 5 * (1 + Math.max(-1, Math.min(1, sum / C / peak))), i = Math.min(9, Math.floor(at));
      return colours[i][c] + (at - i) * (colours[i + 1][c] - colours[i][c]);
    };
    const paint = (id, colour) => {
      const image = new ImageData(W, H); // what it holds is clamped to 0 .. 255
      for (let p = 0, i = 0; p < area; p++, i++) {
        for (let c = 0; c < 3; c++) image.data[i++] = colour ? colour(p, c) : 0;
        image.data[i] = colour ? 255 : 0;
      }
      find(id).getContext("2d").putImageData(image, 0, 0);
    };
    return {
      begin(example) {
        paint("input", example && plain(numbers(example.input)));
        paint("first", plain(first));
      },
      draw(x) {
        paint("now", plain(x));
        paint("change", change(x, first));
      },
      place: (i) => `row ${Math.floor((i % area) / W)}, column ${i % W}`,
    };
  }
  function parsed(hex) {
    return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  }
  function signals() {
    const length = shape[1], charts = [...find("charts").querySelectorAll("svg")];
    const paint = (x, which) => charts.forEach((svg, n) => {
      const { at, low: bottom, high: top } = carried.places[n], from = at * length, points = [];
      for (let i = 0; x && i < length; i++)
        points.push(`${(1 + (148 * i) / (length - 1 || 1)).toFixed(1)},${(52 - (50 * (x[from + i] - bottom)) / (top - bottom || 1)).toFixed(1)}`);
      svg.querySelector(which).setAttribute("points", points.join(" "));
    });
    return {
      begin(example) {
        paint(example && numbers(example.input), ".off");
        paint(first, ".low");
      },
      draw: (x) => paint(x, ".high"),
      place: (i) => `channel ${Math.floor(i / length)}, step ${i % length}`,
    };
  }
  function table() {
    const cells = [...find("table").tBodies[0].rows].map((row) => row.cells), places = carried.places;
    let before;
    return {
      begin(example) {
        before = stored(carried, first);
        places.forEach(({ at: m }, n) => {
          cells[n][1].textContent = example ? example.input[m] : "–";
          cells[n][2].textContent = measure(before[m]);
        });
      },
      draw(x) {
        const now = stored(carried, x);
        places.forEach(({ at: m }, n) => {
          const change = now[m] - before[m], size = Math.max(-1, Math.min(1, moved(x, m) / peak));
          const bar = cells[n][4].querySelector("i");
          cells[n][3].textContent = measure(now[m]);
          cells[n][4].firstChild.textContent = (change > 0 ? "+" : "") + measure(change);
          bar.style.left = 50 + 50 * Math.min(0, size) + "%";
          bar.style.width = 50 * Math.abs(size) + "%";
          bar.className = size < 0 ? "minus" : "";
        });
      },
      place: (i) => (places.find(({ at }) => at === i) || { name: `column ${i}` }).name,
    };
  }

  function update() {
    const x = decode(z);
    show.draw(x);
    for (const [j, row] of rows) {
      row.item.classList.toggle("off", !isOn(j));
      row.box.checked = isOn(j);
      row.range.value = isOn(j) ? z[j] : held[j];
      row.value.textContent = isOn(j) ? signed(z[j]) : gated ? "off" : "mean";
    }
    return x;
  }
  function soon() {
    if (pending) return;
    pending = true;
    requestAnimationFrame(() => {
      pending = false;
      update();
    });
  }
  function tell() {
    const x = update();
    let sum = 0, most = 0;
    for (let i = 0; i < x.length; i++) {
      sum += moved(x, i) ** 2;
      if (Math.abs(moved(x, i)) > Math.abs(moved(x, most))) most = i;
    }
    const on = z.filter((v, j) => v !== rest[j]).length, words = gated ? `${on} latent${on === 1 ? "" : "s"} on. ` : "";
    find("status").textContent = words + (sum === 0 ? "As at the start." : "Moved from the start by "
      + `${Number(Math.sqrt(sum / x.length).toPrecision(2))} (root mean square, in ${carried.unit}), most at ${show.place(most)}: ${signed(moved(x, most))}.`);
  }

  function add(j) {
    const item = find("latent").content.firstElementChild.cloneNode(true), [box, range] = item.querySelectorAll("input");
    const ends = [a, b].filter(Boolean).map((code) => code[j]), on = ends.filter((v) => v !== rest[j]), middle = (low[j] + high[j]) / 2;
    held[j] = on.length ? on[0] : middle === rest[j] ? high[j] || 1 : middle;
    const reach = [low[j], high[j], held[j], ...(b ? ends : on)]; // a blend passes through all between its ends
    const bottom = Math.min(...reach), top = Math.max(...reach), more = (top - bottom) / 4 || 1;
    Object.assign(range, { min: bottom - more, max: top + more, ariaLabel: `Value of latent ${j}` });
    item.querySelector("span").textContent = `latent ${j}` + (hints.get(j) ? `, ${hints.get(j)}` : "");
    const link = item.querySelector("a"), card = document.getElementById(`latent-${j}`);
    if (card) Object.assign(link, { href: `#latent-${j}`, ariaLabel: `card of latent ${j}` }); else link.remove();
    box.addEventListener("change", () => {
      if (!box.checked) held[j] = z[j];
      z[j] = box.checked ? held[j] : rest[j];
      tell();
    });
    range.addEventListener("input", () => {
      held[j] = z[j] = range.value;
      soon();
    });
    range.addEventListener("change", tell);
    find("latents").append(item);
    rows.set(j, { item, box, range, value: item.querySelector("output") });
    return box;
  }
  function offer() {
    const left = [...hints.keys()].filter((j) => !rows.has(j)).sort((i, j) => i - j);
    find("more").replaceChildren(...left.map((j) => new Option(`${j}${hints.get(j) ? `: ${hints.get(j)}` : ""}`, j)));
    find("more").closest("p").hidden = !left.length;
  }
  const order = (code, example) => example ? example.order : [...code.keys()].filter((j) => code[j] !== rest[j]).sort((i, j) => Math.abs(code[j]) - Math.abs(code[i]));

  function begin() {
    const chosen = find("start").value, example = examples[chosen], other = examples[find("other").value];
    a = example ? numbers(example.z) : chosen === "draw" ? draw() : rest.slice();
    b = other && numbers(other.z);
    find("again").textContent = chosen === "draw" ? "Draw anew" : "Start again";
    z = a.slice();
    first = decode(a);
    find("latents").replaceChildren();
    rows.clear();
    for (const j of order(a, example).slice(0, carried.listed)) add(j);
    for (const j of other ? other.order.slice(0, carried.listed) : []) if (!rows.has(j)) add(j);
    offer();
    show.begin(example);
    blend();
  }
  const path = () => PATHS[find("form").elements.path.value];
  function blend() {
    find("blend").hidden = !b;
    if (b) {
      const steps = path().steps(a, b);
      Object.assign(find("way"), { max: steps, step: path() === PATHS.continuous ? 0.02 : 1, value: 0 });
      walk();
    }
    tell();
  }
  function walk() {
    const t = Number(find("way").value), steps = path().steps(a, b);
    z = path().at(a, b, t);
    const turn = changes(a, b)[t - 1];
    find("far").textContent = path() === PATHS.continuous ? `${Math.round(100 * t)} %`
      : `${t} of ${steps}` + (t ? `: latent ${turn} ${b[turn] === rest[turn] ? "off" : a[turn] === rest[turn] ? "on" : "moved"}` : "");
  }

  find("form").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["start", "other"]) find(id).addEventListener("change", begin);
  find("again").addEventListener("click", begin);
  for (const radio of find("form").elements.path) radio.addEventListener("change", blend);
  find("way").addEventListener("input", () => { walk(); soon(); });
  find("way").addEventListener("change", tell);
  find("add").addEventListener("click", () => {
    const j = Number(find("more").value), box = add(j);
    z[j] = held[j];
    offer();
    tell();
    box.focus();
  });
  examples.forEach((example, i) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Alter this code" });
    button.addEventListener("click", () => {
      find("start").value = i;
      begin();
      location.hash = "live";
      find("start").focus({ preventScroll: true });
    });
    document.querySelector(`#example-${example.row} header`).append(button);
  });
  for (const part of document.querySelectorAll("[data-live]")) part.hidden = false;
  begin();
}
const carried = document.getElementById("carried");
if (carried) bench(JSON.parse(carried.textContent));
