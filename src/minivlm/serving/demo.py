"""`minivlm demo`: a page on this machine alone, made with Gradio, on which people try the models by clicking.

The page's own parts: a picture (dropped, pasted, or one of the examples), the model, a conversation whose answers
grow, a button that stops them, and how fast they came. Nothing leaves the machine: no analytics, no share, no font
or script from elsewhere, no calls but the page's own.
"""

# Gradio looks at the annotations of what it calls, so they are not put off here.

import html
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from minivlm.errors import UserError
from minivlm.generation.writing import Sampling
from minivlm.ports import free_port
from minivlm.serving.demo_answers import Answers, Choice, DroppedError, opened
from minivlm.serving.demo_look import CSS, EXAMPLES, HEADER, PLACEHOLDER, TITLE, theme

if TYPE_CHECKING:
    import gradio as gr

UPLOAD_BYTES = 20 << 20
QUESTION_CHARACTERS = 2_000
WAITING = 16  # questions in the queue; the next one is told to come back
ENVIRONMENT = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}

Turns = list[tuple[str, str]]


class Example(NamedTuple):
    """A picture that is there to be picked."""

    path: Path
    title: str


def import_gradio() -> Any:
    """Gradio, told to be silent first; UserError where it is not installed."""
    os.environ.update(ENVIRONMENT)
    try:
        import gradio
    except ImportError:
        raise UserError('Gradio is not installed; install it with: pip install "minivlm[demo]"') from None
    return gradio


def serve(
    choices: Sequence[Choice],
    examples: Sequence[Example],
    *,
    host: str,
    port: int,
    device: str,
    max_new_tokens: int,
    ready: Callable[[str], None],
    wait: Callable[[], object],
) -> None:
    """Serve the page until `wait` returns; `ready` is told its address. What people upload is removed at the end.

    The first model is loaded before. UserError when it cannot be, or when Gradio is missing.
    """
    import_gradio()
    answers = Answers(choices, device)
    answers.load(choices[0].name)
    with tempfile.TemporaryDirectory(prefix="minivlm-demo-") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        page = build_page(answers, choices, examples, max_new_tokens=max_new_tokens)
        page.queue(max_size=WAITING, api_open=False)
        port = launch(page, host, port)
        try:
            ready(f"http://{host}:{port}")
            wait()
        finally:
            page.close(verbose=False)


def launch(page: "gr.Blocks", host: str, port: int) -> int:
    """Open the page on the first free port from `port` on, which is returned; to this machine alone."""
    while True:
        port = free_port(port)
        try:
            page.launch(
                server_name=host,
                server_port=port,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                footer_links=[],
                run_history=False,
                max_file_size=UPLOAD_BYTES,
                enable_monitoring=False,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                theme=theme(),
                css=CSS,
            )
            return port
        except OSError as error:
            if "empty port" not in str(error):
                raise
            port += 1  # another has taken it meanwhile


def build_page(
    answers: Answers, choices: Sequence[Choice], examples: Sequence[Example], *, max_new_tokens: int
) -> "gr.Blocks":
    """The page with all that it does."""
    import gradio as gr

    questions = {choice.name: choice.question for choice in choices}
    first = choices[0]

    def ask(
        request: gr.Request, picture: Path | None, name: str, turns: Turns, question: str, warmth: float
    ) -> Iterator[tuple[Any, ...]]:
        """(turns, conversation shown, question, status, ask button, stop button), again and again."""
        asked = question.strip()[:QUESTION_CHARACTERS] or questions[name]
        idle = (gr.Button(interactive=True), gr.Button(interactive=False))
        try:
            busy = (gr.Button(interactive=False), gr.Button(interactive=True))
            yield turns, shown([*turns, (asked, "")]), "", "", *busy
            for reply in answers.ask(
                str(request.session_hash),
                name,
                picture,
                turns,
                asked,
                max_new_tokens=max_new_tokens,
                sampling=Sampling(temperature=warmth),
            ):
                if reply.note is None:
                    yield gr.skip(), shown([*turns, (asked, reply.text)]), *[gr.skip()] * 4
                else:
                    said = [(asked, reply.text)] if reply.text else []
                    yield [*turns, *said], shown([*turns, *said]), "", status(reply.note), *idle
        except DroppedError:  # once more empty: what was on its way may have come after `begin`
            yield [], [], gr.skip(), gr.skip(), *idle
        except UserError as error:
            yield turns, shown(turns), question, status(wrong=str(error)), *idle

    def begin(request: gr.Request, picture: Path | None, name: str) -> tuple[Any, ...]:
        """(turns, conversation, question, status) of a conversation that has not begun."""
        answers.drop(str(request.session_hash))
        return begun(picture, questions.get(name, ""))

    def change(request: gr.Request, picture: Path | None, name: str) -> tuple[Any, ...]:
        """The same, unless it was asked about already."""
        answers.drop(str(request.session_hash), unless=(picture, name))
        return begun(picture, questions.get(name, ""))

    def end(request: gr.Request) -> None:
        answers.stop(str(request.session_hash))

    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.HTML(HEADER, padding=False)
        turns = gr.State([])
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=340):
                picture = gr.Image(
                    label="图片 Picture",
                    sources=["upload", "clipboard"],
                    height=330,
                    buttons=[],
                    elem_id="picture",
                    placeholder="拖入、粘贴或点击选择图片\nDrop, paste or choose a picture",
                )
                # Gradio's own would decode it, whatever its size; a subclass makes it write files beside this.
                picture.preprocess = as_uploaded  # type: ignore[assignment, method-assign]
                gr.HTML(EXAMPLES, padding=False, visible=bool(examples), elem_id="examples-title")
                gallery = gr.Gallery(
                    [(str(each.path), each.title) for each in examples],
                    show_label=False,
                    columns=4,
                    height="auto",
                    object_fit="cover",
                    allow_preview=False,
                    interactive=False,
                    buttons=[],
                    elem_id="examples",
                    visible=bool(examples),
                )
            with gr.Column(scale=6, min_width=380):
                model = gr.Radio(
                    [choice.name for choice in choices], value=first.name, label="模型 Model", elem_id="model"
                )
                chat = gr.Chatbot(
                    label="对话 Conversation",
                    height=360,
                    placeholder=PLACEHOLDER,
                    render_markdown=False,
                    buttons=["copy_all"],
                    feedback_options=None,
                    elem_id="chat",
                )
                question = gr.Textbox(
                    first.question,
                    label="问题 Question",
                    lines=1,
                    max_lines=5,
                    max_length=QUESTION_CHARACTERS,
                    placeholder="留空则用默认问题 · empty asks the default question",
                    elem_id="question",
                )
                with gr.Row():
                    send = gr.Button("提问 Ask", variant="primary", elem_id="ask")
                    stop = gr.Button("停止 Stop", variant="stop", interactive=False, elem_id="stop")
                    anew = gr.Button("新对话 New chat", elem_id="anew")
                note = gr.HTML("", elem_id="status", padding=False)
                with gr.Accordion("设置 Settings", open=False):
                    meaning = "0：总选最可能的词 always the most probable token"
                    warmth = gr.Slider(0, 1.5, 0, step=0.1, label="温度 Temperature", info=meaning)

        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        outputs = [turns, chat, question, note]
        gr.on(
            [send.click, question.submit],
            ask,
            [picture, model, turns, question, warmth],
            [*outputs, send, stop],
            concurrency_limit=1,
            **quiet,
        )
        stop.click(end, queue=False, **quiet)
        gr.on([picture.change, model.change], change, [picture, model], outputs, **quiet)
        gr.on([anew.click, chat.clear], begin, [picture, model], outputs, **quiet)

        def pick(event: gr.SelectData) -> str:
            return str(examples[event.index].path)

        gallery.select(pick, None, picture, **quiet)
    return page


def begun(picture: Path | None, question: str) -> tuple[Any, ...]:
    """(turns, conversation, question, status) of a conversation that has not begun."""
    try:
        said = ""
        if picture:
            opened(picture)
    except UserError as error:
        said = status(wrong=str(error))
    return [], [], question, said


def as_uploaded(payload: Any) -> Path | None:
    """Where a picture that came from the browser lies."""
    return Path(payload.path) if payload and payload.path else None


def shown(turns: Turns) -> list[dict[str, str]]:
    """Turns as Gradio's conversation has them."""
    roles = ("user", "assistant")
    return [
        {"role": role, "content": text} for turn in turns for role, text in zip(roles, turn, strict=True) if text
    ]


def status(note: str = "", wrong: str = "") -> str:
    """The line under the buttons, as HTML."""
    if wrong:
        return f'<span class="wrong" role="alert">{html.escape(wrong)}</span>'
    return f'<span role="status">{html.escape(note)}</span>'
