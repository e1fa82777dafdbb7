/*<![CDATA[*/
"use strict";
// A line in a card's plot goes along with its recording; a click in the plot plays from there. One plays at a time.
const cards = Array.from(document.querySelectorAll(".card"));
for (const card of cards) {
  const audio = card.querySelector("audio"), lanes = card.querySelector(".lanes"), over = card.querySelector(".over");
  const line = over.firstElementChild, seconds = Number(card.dataset.seconds);
  const follow = () => {
    line.style.left = Math.min(100, 100 * audio.currentTime / seconds) + "%";
    line.hidden = audio.currentTime === 0;
    if (!audio.paused) requestAnimationFrame(follow);
  };
  line.hidden = true;
  audio.addEventListener("play", () => {
    for (const other of cards) if (other !== card) other.querySelector("audio").pause();
    follow();
  });
  audio.addEventListener("seeked", follow);
  audio.addEventListener("ended", follow);
  lanes.addEventListener("click", (event) => {
    const box = over.getBoundingClientRect();
    audio.currentTime = Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * seconds;
    audio.play().catch(() => {}); // stopped before it began
  });
}
// On paper nothing can be opened: the census is whole there.
let opened = [];
addEventListener("beforeprint", () => {
  opened = Array.from(document.querySelectorAll("#census details:not([open])"));
  for (const details of opened) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of opened) details.open = false;
});
/*]]>*/
